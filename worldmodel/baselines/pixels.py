"""A generator of the next small picture from the present one and an action: planning where everything is drawn.

Legend: worldmodel/types.py. s side of the small pictures [px], n pictures, N rows of the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.data.cache import load_features
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.predictor import Fourier, Kinematics, ResidualBlock
from worldmodel.training.fit import read_windows
from worldmodel.units import ActionUnits

Array = NDArray[Any]

LOOK = 16  # decisions of the forecast that validation looks at


@dataclass(frozen=True)
class PixelConfig(ActionUnits):
    """Everything that decides the shapes. side: of the pictures [px], a multiple of 8. window: decisions rolled out in
    training. channels: after the first convolution, doubled by each of the two after it. action_range: see ActionUnits.
    """

    action_dim: int
    proprio_dim: int
    side: int = 32
    channels: int = 16
    hidden: int = 512
    blocks: int = 2
    window: int = 4
    action_range: Sequence[Sequence[float]] | None = None


class Shrink(nn.Module):
    """Pictures in, their pixels in [0, 1] out: an encoder that knows nothing."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.image_size, self.tokens, self.width = side, side * side, 3

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> float32 [B,T,s*s,3]."""
        pixels = frames.flatten(0, 1).movedim(-1, 1).to(torch.float32) / 255.0
        small = F.adaptive_avg_pool2d(pixels, (self.image_size, self.image_size))
        return small.flatten(2).transpose(1, 2).reshape(*frames.shape[:2], self.tokens, self.width)


class PixelPredictor(nn.Module):
    """A convolutional autoencoder with skips; the hand's position, now and next, and the action enter in the middle.

    It draws a new picture and a mask, and copies the present picture where the mask is 0 (the background does not have
    to be drawn again; Finn et al. 2016, arXiv 1605.07157). It is told as much of the hand as the compact predictor.
    """

    def __init__(self, config: PixelConfig) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.shrink = Shrink(config.side)
        self.kinematics = Kinematics(config.proprio_dim, config.action_dim)
        self.fourier = Fourier(config.proprio_dim)
        down = [(3, width), (width, 2 * width), (2 * width, 4 * width)]
        up = [(4 * width, 2 * width), (4 * width, width), (2 * width, 4)]
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in down)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in up)
        self.flat = 4 * width * (config.side // 8) ** 2
        told = config.action_dim + 2 * self.fourier.width
        self.enter = nn.Linear(self.flat + told, config.hidden)
        self.middle = nn.Sequential(*(ResidualBlock(config.hidden) for _ in range(config.blocks)))
        self.leave = nn.Linear(config.hidden, self.flat)

    def trainable(self) -> dict[str, nn.Module]:
        """The parts that are trained."""
        names = ("kinematics", "fourier", "down", "up", "enter", "middle", "leave")
        return {name: getattr(self, name) for name in names}

    def features(self, table: Table, folder: Path, data_sha256: str, device: torch.device) -> Rows:
        """All pictures, small, float16 [N,s*s,3]: a file in `folder`."""
        name = hashlib.sha256(f"pixels {self.config.side} {data_sha256}".encode()).hexdigest()
        return load_features(self.shrink, table.frames, name, folder, nn.Identity(), device)

    def fit_statistics(self, table: Table, episodes: Array) -> None:
        """Take from the logs how actions move the hand, and its range."""
        rows = table.window_starts(2, episodes)
        proprio = torch.from_numpy(table.proprio)
        self.kinematics.fit(proprio[rows], torch.from_numpy(table.actions)[rows], proprio[rows + 1])
        self.fourier.fit(proprio[rows])

    def draw(
        self, table: Table, features: Rows, starts: Array, rng: np.random.Generator, count: int
    ) -> tuple[Tensor, ...]:
        """n random windows: pictures [n,T,s*s,3], actions [n,T,A], proprio [n,T,P]."""
        rows = starts[rng.integers(0, len(starts), count)][:, None] + np.arange(self.config.window + 1)
        return read_windows(table, features, rows)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """Mean squared error of every picture of a rollout from the first one, for what `draw` gives."""
        pixels, actions, proprio = batch
        frames = self.pictures(pixels)
        drawn = torch.stack(list(self.rollout(frames[:, 0], proprio[:, 0], actions[:, :-1])), dim=1)
        return (drawn.float() - frames[:, 1:]).square().mean()

    def pictures(self, pixels: Tensor) -> Tensor:
        """[...,s*s,3] -> [...,3,s,s]."""
        side = self.config.side
        return pixels.transpose(-1, -2).reshape(*pixels.shape[:-2], 3, side, side)

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [B,S,S,3] -> small pictures [B,3,s,s] in [0, 1]."""
        return self.pictures(self.shrink(frames[:, None])[:, 0])

    def rollout(self, frames: Tensor, proprio: Tensor, actions: Tensor) -> Iterator[Tensor]:
        """The picture [n,3,s,s] after each of the actions [n,H,A] from frames [n,3,s,s] and proprio [n,P]."""
        for step in range(actions.shape[1]):
            frames = self(frames, actions[:, step], proprio)
            proprio = self.kinematics(proprio, actions[:, step])
            yield frames

    def forward(self, frames: Tensor, actions: Tensor, proprio: Tensor) -> Tensor:
        """[n,3,s,s], [n,A], [n,P] -> the next picture [n,3,s,s] in [0, 1]."""
        first = F.gelu(self.down[0](2.0 * frames - 1.0))
        second = F.gelu(self.down[1](first))
        third = F.gelu(self.down[2](second))
        following = self.kinematics(proprio, actions)
        told = [third.flatten(1), actions, self.fourier(proprio), self.fourier(following)]
        middle = self.leave(self.middle(self.enter(torch.cat(told, dim=-1)))).reshape(third.shape)
        x = F.gelu(self.up[0](third + middle))
        x = F.gelu(self.up[1](torch.cat([x, second], dim=1)))
        x = self.up[2](torch.cat([x, first], dim=1)).float().sigmoid()
        mask = x[:, 3:]
        drawn: Tensor = mask * x[:, :3] + (1.0 - mask) * frames
        return drawn

    @torch.no_grad()
    def validate(self, table: Table, features: Rows, episodes: Array) -> dict[str, Any]:
        """Per decision, on held-out windows: squared error of the forecast, of a still picture, and sharpness.

        sharpness: see the function, of what changed since the first picture.
        """
        frames, drawn = self.forecast(table, features, episodes, 64)
        change, true_change = drawn - frames[:, :1], frames[:, 1:] - frames[:, :1]
        return {
            "pixel_error": (drawn - frames[:, 1:]).square().mean(dim=(0, 2, 3, 4)).tolist(),
            "pixel_error_of_a_still_picture": true_change.square().mean(dim=(0, 2, 3, 4)).tolist(),
            "sharpness": sharpness(change, true_change).tolist(),
        }

    @torch.no_grad()
    def forecast(self, table: Table, features: Rows, episodes: Array, most: int) -> tuple[Tensor, Tensor]:
        """True pictures [n,L+1,3,s,s] of windows in which most changes, and the forecast of all but the first."""
        lengths = np.bincount(table.episode)[episodes]
        look = min(LOOK, int(lengths.max()) - 1)
        starts = table.window_starts(look + 1, episodes)
        far = np.linalg.norm(table.proprio[starts + look] - table.proprio[starts], axis=1)
        rows = starts[np.argsort(-far, kind="stable")[:most]][:, None] + np.arange(look + 1)
        pixels, actions, proprio = read_windows(table, features, rows)
        frames = self.pictures(pixels)
        drawn = list(self.rollout(frames[:, 0], proprio[:, 0], actions[:, :-1]))
        return frames, torch.stack(drawn, dim=1)


def sharpness(drawn: Tensor, true: Tensor) -> Tensor:
    """How much of the true slopes from pixel to pixel is drawn, per picture of a window: [n,L,3,s,s] twice -> [L].

    The coefficient of the drawn slopes on the true ones: 1 for the truth, less for a blur, 0 for what is not drawn or
    is drawn elsewhere; smudges where nothing is do not count.
    """
    pairs = [(drawn.diff(dim=dim), true.diff(dim=dim)) for dim in (-1, -2)]
    kept = sum(((a * b).sum(dim=(0, 2, 3, 4)) for a, b in pairs), torch.zeros(()))
    whole = sum((b.square().sum(dim=(0, 2, 3, 4)) for _, b in pairs), torch.zeros(()))
    return kept / whole.clamp_min(1e-6)
