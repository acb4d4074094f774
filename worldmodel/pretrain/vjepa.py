"""V-JEPA: infer the features of hidden tokens, as an exponential moving average of the encoder sees them.

Bardes et al. 2024, arXiv 2404.08471; the architecture is that of V-JEPA 2 (arXiv 2506.09985) at any size.
Legend: N tokens of a clip, C visible tokens, Q hidden tokens, F width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # see encoders.py
    from transformers import VJEPA2Model


def build_model(architecture: Mapping[str, Any], seed: int) -> VJEPA2Model:
    """A V-JEPA 2 with fresh weights; `architecture` are fields of VJEPA2Config."""
    from transformers import VJEPA2Config, VJEPA2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VJEPA2Model(VJEPA2Config(**architecture))


def encode_visible(encoder: Any, clips: Tensor, visible: Tensor) -> Tensor:
    """Features [B,C,F] of the visible tokens [B,C] of clips [B,2,3,S,S]; hidden tokens are never computed."""
    hidden = encoder.embeddings(clips)
    hidden = hidden.gather(1, visible.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    for layer in encoder.layer:
        hidden = layer(hidden, visible)[0]
    out: Tensor = encoder.layernorm(hidden)
    return out


class VJEPA(nn.Module):
    """The context encoder and predictor in `model`; the target encoder follows by exponential moving average."""

    def __init__(self, model: VJEPA2Model) -> None:
        super().__init__()
        self.model = model
        self.target = copy.deepcopy(model.encoder).eval().requires_grad_(False)

    def loss(self, clips: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Mean L1 between inferred and target features at the hidden tokens; targets layer-normalised, no gradient."""
        with torch.no_grad():
            target = self.target(clips).last_hidden_state
            target = F.layer_norm(target.float(), target.shape[-1:])
            target = target.gather(1, hidden.unsqueeze(-1).expand(-1, -1, target.shape[-1]))
        context = encode_visible(self.model.encoder, clips, visible)
        # The predictor picks the visible tokens out of a full grid itself.
        index = visible.unsqueeze(-1).expand(-1, -1, context.shape[-1])
        full = context.new_zeros(context.shape[0], visible.shape[1] + hidden.shape[1], context.shape[2])
        full = full.scatter(1, index, context)
        inferred = self.model.predictor(full, [visible], [hidden]).last_hidden_state
        return F.l1_loss(inferred.float(), target)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target encoder towards the context encoder."""
        for slow, fast in zip(self.target.parameters(), self.model.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - momentum)

    def frozen(self) -> VJEPA2Model:
        """The model to ship: the target encoder's weights, with the predictor they were trained with."""
        shipped = copy.deepcopy(self.model)
        shipped.encoder.load_state_dict(self.target.state_dict())
        shipped.train(False)
        return shipped
