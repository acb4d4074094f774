"""Pictures as another light, other colours or another camera might have made them, and with something lying about.

Nothing is known of the scene: each change is one of the whole picture, save the thing that is pasted. Legend: N rows, S
image side [px].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from worldmodel.data.rows import Rows

Array = NDArray[Any]

LIGHT, COLOUR, CAMERA, THING = 0.6, 0.6, 0.5, 0.3  # how often each of them changes


def random_look(picture: Array, rng: np.random.Generator) -> Array:
    """uint8 [S,S,3] -> the same scene in another look; where things are in it can still be seen."""
    camera, colour, light, thing = rng.random(4) < (CAMERA, COLOUR, LIGHT, THING)
    seen = picture.astype(np.float32) / 255.0
    if camera:
        seen = _moved(seen, rng)
    if colour:
        seen = _coloured(seen, rng)
    if light:
        seen = _lit(seen, rng)
    if thing:
        seen = _littered(seen, rng)
    whole: Array = np.rint(255.0 * seen.clip(0.0, 1.0)).astype(np.uint8)
    return whole


def _moved(picture: Array, rng: np.random.Generator) -> Array:
    """Through an affine map: turned and sheared by up to 2 degrees each, 6% larger or smaller, 4% to a side."""
    turn, shear, shift = rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04, 2), rng.uniform(-0.08, 0.08, 2)
    size = rng.uniform(0.94, 1.06)
    rows = [
        [size * np.cos(turn), -np.sin(turn) + shear[0], shift[0]],
        [np.sin(turn) + shear[1], size * np.cos(turn), shift[1]],
    ]
    pixels = torch.from_numpy(picture).movedim(-1, 0)[None]
    grid = F.affine_grid(torch.tensor([rows], dtype=torch.float32), list(pixels.shape), align_corners=False)
    found = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return found[0].movedim(0, -1).numpy()


def _coloured(picture: Array, rng: np.random.Generator) -> Array:
    """Channels exchanged, mixed and shifted: one linear map of colours, so what differed still does, nearly always."""
    mixing = np.eye(3)[rng.permutation(3)]
    mixing += rng.random() * (np.eye(3) - mixing) + 0.35 * rng.normal(size=(3, 3))
    found: Array = (picture - 0.5) @ mixing.T.astype(np.float32) + 0.5 + rng.uniform(-0.15, 0.15, 3)
    return found.astype(np.float32)


def _lit(picture: Array, rng: np.random.Generator) -> Array:
    """Darker or brighter, tinted, with another contrast, and brighter on one side than on the other."""
    across = np.linspace(-1.0, 1.0, len(picture))
    slope = rng.uniform(-0.5, 0.5, 2)
    level = rng.uniform(0.3, 1.3) * (1.0 + slope[0] * across[:, None] + slope[1] * across[None, :])
    tint, contrast = 1.0 + rng.uniform(-0.3, 0.3, 3), rng.uniform(0.7, 1.5)
    found: Array = picture.clip(0.0, 1.0) ** contrast * level[..., None] * tint
    return found.astype(np.float32)


def _littered(picture: Array, rng: np.random.Generator) -> Array:
    """With a disc or a box of one colour, 5 to 16% of the picture wide to each side, anywhere."""
    across = np.linspace(-1.0, 1.0, len(picture))
    centre, radius, colour = rng.uniform(-0.9, 0.9, 2), rng.uniform(0.05, 0.16, 2), rng.random(3)
    down, right = np.abs(across - centre[0]) / radius[0], np.abs(across - centre[1]) / radius[1]
    box = rng.random() < 0.5
    inside = np.maximum(down[:, None], right) < 1.0 if box else np.hypot(down[:, None], right) < 1.0
    found: Array = np.where(inside[..., None], colour * (0.8 + 0.2 * across[:, None, None]), picture)
    return found.astype(np.float32)


@dataclass(frozen=True)
class Picked:
    """Some rows [n] of others, by their numbers."""

    rows: Rows
    numbers: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array of them."""
        return (len(self.numbers), *self.rows.shape[1:])

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, asked: Any, /) -> Array:
        found: Array = self.rows[self.numbers[asked]]
        return found


@dataclass(frozen=True)
class RandomLooks:
    """Pictures uint8 [N,S,S,3], each in `count` random looks, one after the other: [N x count,S,S,3].

    A look depends on the seed and the row alone, however the rows are asked for.
    """

    frames: Rows
    count: int
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array of them."""
        return (len(self), *self.frames.shape[1:])

    def __len__(self) -> int:
        return len(self.frames) * self.count

    def __getitem__(self, asked: Any, /) -> Array:
        rows = np.arange(len(self))[asked]
        frames = self.frames[rows // self.count]
        found: Array = np.empty_like(frames)
        for at, row in enumerate(rows):
            found[at] = random_look(frames[at], np.random.default_rng([self.seed, int(row)]))
        return found
