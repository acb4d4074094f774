"""DreamerV3 on logs without rewards: what it sees, what it is rewarded for, and what is kept of it.

Legend: worldmodel/types.py. N rows of the table, n sequences of L steps, time first: [L,n,...]; s side of the small
pictures [px], E width of the pooled features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.baselines.dreamer import CPU, Dreamer
from worldmodel.baselines.dreamer_data import distance_reward, hindsight_sequences, labels, pooled, small_pictures
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.encoders import FrozenEncoder
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.projector import FeatureNorm
from worldmodel.training.features import cached_features
from worldmodel.units import ActionUnits

Array = NDArray[Any]

SEES, REWARDS, COMPARED = ("features", "pixels"), ("success", "distance", "task", "none"), ("posterior", "decoded")


@dataclass(frozen=True)
class DreamerConfig(ActionUnits):
    """Everything that decides the shapes, and what is learned.

    reward: "success", 1 on reaching the goal's very row of the log, which ends the pursuit; "distance", minus that of
    the frozen embeddings; "task", the environment's own; or "none": a world model without goals, to plan with.
    sees: "features" of the frozen encoder, averaged over squares of side `pool`, or "pixels", of `side` [px].
    size: one of dreamer.SIZES. length: steps of a sequence. span: decisions to the farthest goal; None: as far as the
    episode goes. compare: what planning compares with the goal's, "posterior" or "decoded" (what is seen).
    action_range: see ActionUnits.
    """

    action_dim: int
    proprio_dim: int
    reward: str = "success"
    sees: str = "features"
    size: str = "1M"
    length: int = 16
    span: int | None = None
    pool: int = 2
    side: int = 64
    compare: str = "posterior"
    action_range: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        for name, known in (("reward", REWARDS), ("sees", SEES), ("compare", COMPARED)):
            if getattr(self, name) not in known:
                got = getattr(self, name)
                raise ConfigError(f"expected kind.{name} to be one of {', '.join(known)}, got {got!r}: choose one")

    @property
    def plans(self) -> bool:
        """Whether it is a world model to plan with rather than an actor."""
        return self.reward == "none"


class DreamerBaseline(nn.Module):
    """A frozen encoder, where it sees features, and sheeprl's agent over {"now", "goal", "proprio"}, or "now" alone.

    encoder: needed for features, and for the reward "distance". device, replay_context: see Dreamer.
    """

    def __init__(
        self,
        encoder: FrozenEncoder | None,
        config: DreamerConfig,
        device: torch.device = CPU,
        replay_context: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        tokens, width = (1, 1) if encoder is None else (encoder.tokens, encoder.width)
        if encoder is not None and encoder.grid % config.pool:
            raise ConfigError(
                f"expected kind.pool to divide a grid of {encoder.grid}, got {config.pool}: choose 1 or 2"
            )
        self.norm, self.posture = FeatureNorm(tokens, width), FeatureNorm(1, config.proprio_dim)
        keys = ("now",) if config.plans else ("now", "goal")
        seen = dict.fromkeys(keys, config.side if config.sees == "pixels" else tokens * width // config.pool**2)
        images, vectors = (seen, {}) if config.sees == "pixels" else ({}, seen)
        if not config.plans:
            vectors = {**vectors, "proprio": config.proprio_dim}
        self.dreamer = Dreamer(
            images,
            vectors,
            config.action_dim,
            size=config.size,
            device=device,
            acts=not config.plans,
            replay_context=replay_context,
        )

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained or fitted; the encoder stays frozen."""
        return {"norm": self.norm, "posture": self.posture, **self.dreamer.parts()}

    def features(self, table: Table, folder: Path, data_sha256: str, device: torch.device) -> Rows:
        """The very features the planner is trained on, float16 [N,M,F]: a file in `folder`. Without an encoder
        there are none, [N,0,0]."""
        if self.encoder is None:
            return np.zeros((len(table), 0, 0), np.float16)
        source = cast(WorldModel, self)  # which has the two parts that are asked for, encoder and norm
        return cached_features(source, table, folder, self.encoder.sha256(), data_sha256, device)

    def fit_statistics(self, table: Table, episodes: Array) -> None:
        """Take the mean and the scale of the proprioception."""
        rows = table.window_starts(2, episodes)
        self.posture.fit(torch.from_numpy(table.proprio[rows])[:, None])

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> dict[str, Tensor]:
        """n sequences as `Dreamer.update` takes them, of L rows from random `starts`."""
        config, sparse = self.config, self.config.reward == "success"
        found = hindsight_sequences(table, starts, rng, count, config.length, config.span, absorbing=sparse)
        seen, rewards = {"now": self._recall(table, features, found.rows)}, None
        if not config.plans:
            goals = self._recall(table, features, found.goals)
            seen = self.observation(seen["now"], goals, torch.from_numpy(table.proprio[found.rows]))
        if config.reward == "distance":
            rewards = distance_reward(*(self._embeddings(features, rows) for rows in (found.rows, found.goals)))
        return {**seen, **labels(found, sparse, rewards), "actions": torch.from_numpy(table.actions[found.rows])}

    def observation(self, now: Tensor, goal: Tensor, proprio: Tensor) -> dict[str, Tensor]:
        """What the actor observes: two pictures as `see` gives them and proprio [...,P] [m]."""
        return {"now": now, "goal": goal, "proprio": self.posture(proprio[..., None, :])[..., 0, :]}

    @torch.no_grad()
    def see(self, frames: Tensor) -> Tensor:
        """uint8 [n,S,S,3] -> features float32 [n,E], or small pictures uint8 [n,3,s,s]."""
        if self.config.sees == "pixels":
            return small_pictures(frames, self.config.side)
        assert self.encoder is not None
        return pooled(self.norm(self.encoder(frames[:, None]))[:, 0], self.config.pool)

    def validate(self, table: Table, features: Rows, episodes: Array) -> dict[str, Any]:
        """The losses of the world model on held-out sequences."""
        starts = table.window_starts(self.config.length, episodes)
        return self.dreamer.validate(self.draw(table, features, starts, np.random.default_rng(0), 64))

    def _recall(self, table: Table, features: Rows, rows: Array) -> Tensor:
        """What `see` gives for rows [L,n] of the table."""
        if self.config.sees == "features":
            return self._embeddings(features, rows)
        flat = small_pictures(torch.from_numpy(table.frames[rows.ravel()]), self.config.side)
        return flat.reshape(*rows.shape, *flat.shape[1:])

    def _embeddings(self, features: Rows, rows: Array) -> Tensor:
        """Pooled features [L,n,E] of rows [L,n]; a row that occurs often is read once."""
        once, where = np.unique(rows, return_inverse=True)
        return pooled(torch.from_numpy(features[once]).float(), self.config.pool)[torch.from_numpy(where)]


def new_dreamer(
    encoder: FrozenEncoder | None,
    dims: tuple[int, int],
    sizes: Mapping[str, Any],
    device: torch.device,
    replay_context: int = 0,
) -> DreamerBaseline:
    """A network for the dimensions of the data (A, P), with the encoder where it is of use."""
    config = DreamerConfig(*dims, **sizes)
    needed = config.sees == "features" or config.reward == "distance"
    return DreamerBaseline(encoder if needed else None, config, device, replay_context)
