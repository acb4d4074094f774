"""The file of decoded pictures: written one by one in the size an encoder needs.

Legend: N rows, h, w picture size [px].
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from worldmodel.data.rows import RowWriter
from worldmodel.errors import OutputError


def frame_shape(shape: tuple[int, int], side: int | None) -> tuple[int, int]:
    """The size in which pictures of (h, w) [px] are kept for an encoder of `side` x `side`: never a larger one."""
    return shape if side is None or shape[0] * shape[1] <= side * side else (side, side)


def shrink(picture: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [h,w,3] in another size, by the resize with which encoders.normalise_pixels would have done it later."""
    if picture.shape[:2] == shape:
        return picture
    pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)[None].to(torch.float32)
    small = F.interpolate(pixels, size=shape, mode="bilinear", antialias=True, align_corners=False)
    whole: NDArray[np.uint8] = small[0].movedim(0, -1).round().clamp(0, 255).to(torch.uint8).numpy()
    return whole


def require_space(folder: Path, size: int, what: str) -> None:
    """Raise OutputError where the disk under `folder` has less than `size` bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        got = f"{free / 1e9:.1f} GB free in {folder}: free some, or copy the data to a larger disk"
        raise OutputError(f"expected {size / 1e9:.1f} GB of disk for {what}, got {got}")


class FrameFile(RowWriter):
    """A .npy of uint8 [N,h,w,3] at `path`, written picture by picture, so that it is never in memory."""

    def __init__(self, path: Path, rows: int, shape: tuple[int, int]) -> None:
        require_space(path.parent, rows * math.prod(shape) * 3, f"{rows} decoded pictures of {shape[0]} x {shape[1]}")
        self.picture = shape
        super().__init__(path, (rows, *shape, 3), np.uint8)

    def keep(self, first: int, every: int, row: int, picture: NDArray[np.uint8]) -> None:
        """Keep picture `row` of the episode whose pictures go from row `first` on, if it is one of every `every`."""
        if row % every == 0:
            self.put(first + row // every, shrink(picture, self.picture))
