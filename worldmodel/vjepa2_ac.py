"""The public V-JEPA 2-AC (Assran et al. 2025, arXiv 2506.09985): a token model of poses, and its action box.

Legend: worldmodel/types.py. A = P = 7: poses and actions are written as worldmodel/actions.py says.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from planners import ActionBox
from worldmodel.encoders import FrozenEncoder
from worldmodel.errors import ConfigError
from worldmodel.token_agent import TokenAgent
from worldmodel.tokens import TokenConfig, TokenModel, given
from worldmodel.transformer import TransformerPredictor


class VJEPA2AC(TokenModel):
    """A token model whose predictor was trained elsewhere, on poses as they are; it reads none from a picture.

    Raises BundleError where encoder and predictor do not belong to each other.
    """

    def __init__(
        self, encoder: FrozenEncoder, predictor: TransformerPredictor, name: str = "vjepa2_ac", sha256: str = ""
    ) -> None:
        config = TokenConfig(
            predictor.action_dim,
            predictor.proprio_dim,
            width=predictor.predictor_embed.out_features,
            depth=len(predictor.predictor_blocks),
            heads=predictor.heads,
            layout=predictor.layout,
            context=predictor.context,
            kinematics="pose",
            reader_hidden=0,
        )
        super().__init__(encoder, config, name, sha256, predictor)

    def agent(self, planner: str = "cem", **settings: Any) -> VJEPA2ACAgent:
        """An agent that plans with this model. Raises ConfigError for settings that do not exist."""
        return VJEPA2ACAgent(self, planner, **given(settings))


class VJEPA2ACAgent(TokenAgent):
    """Plans as V-JEPA 2-AC does: only x, y, z and the gripper are searched, the hand does not turn.

    max_step: per axis [m]. max_gripper: of the gripper's closedness. threshold: smaller changes of the gripper are not
    carried out. Further settings are those of `TokenAgent`. The defaults are those of the public code. Raises
    ConfigError for a planner or a setting that does not exist, or a size out of range.
    """

    def __init__(
        self,
        model: VJEPA2AC,
        planner: str = "cem",
        *,
        max_step: float = 0.05,
        max_gripper: float = 0.75,
        threshold: float = 0.25,
        warm_start: bool = False,
        chunk: int = 16,
        **settings: Any,
    ) -> None:
        if not (0 < max_step <= 1 and 0 <= max_gripper <= 1):
            raise ConfigError(
                f"expected max_step in (0,1] m and max_gripper in [0,1], got {max_step} and {max_gripper}: "
                "correct the one that is out of range"
            )
        high = torch.tensor([max_step] * 3 + [0.0] * 3 + [max_gripper], device=model.device())
        box = ActionBox(-high, high)
        super().__init__(model, planner, warm_start=warm_start, chunk=chunk, box=box, **settings)
        self._threshold = threshold

    def _carried_out(self, actions: Tensor) -> Tensor:
        carried_out = super()._carried_out(actions).clone()
        gripper = carried_out[:, 6]
        carried_out[:, 6] = torch.where(gripper.abs() < self._threshold, 0.0, gripper)
        return carried_out
