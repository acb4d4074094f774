"""Encode frames once: a file beside the data, keyed by what it was made from.

Legend: N rows, S image side [px], M encoder tokens, F their width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.frames import require_space
from worldmodel.data.rows import RowFile, Rows
from worldmodel.data.unfinished import unfinished_rows
from worldmodel.storage import sha256_file, write_json
from worldmodel.types import Encoder

Array = NDArray[Any]

BATCH = 64  # pictures encoded at once


def encode_rows(encoder: Encoder, frames: Array, device: torch.device) -> Tensor:
    """Features float32 [n,M,F] of frames uint8 [n,S,S,3], on the CPU."""
    parts = []
    for start in range(0, len(frames), BATCH):
        chunk = torch.from_numpy(np.array(frames[start : start + BATCH])).to(device)
        parts.append(encoder(chunk.unsqueeze(1)).squeeze(1).cpu())
    return torch.cat(parts)


def load_features(
    encoder: Encoder,
    frames: Rows,
    name: str,
    folder: Path,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
) -> RowFile:
    """Normalised features of every frame uint8 [N,S,S,3], float16 [N,M,F], a file; computed once under `name`.

    A run that is stopped leaves what it has to the next. Raises OutputError where the disk has no space for them.
    """
    path, seal = folder / f"features-{name[:32]}.npy", folder / f"features-{name[:32]}.json"
    if _whole(path, seal):
        return RowFile(path)
    total = len(frames)
    shape = (total, encoder.tokens, encoder.width)
    require_space(folder, math.prod(shape) * 2, f"the features of {total} pictures")
    with (
        unfinished_rows(path, shape, np.float16) as features,
        tqdm(total=total, initial=features.done, unit="frame", desc="encode", mininterval=1.0) as bar,
    ):
        for start in range(features.done, total, BATCH):
            part = normalise(encode_rows(encoder, frames[start : start + BATCH], device))
            features.put(part.to(torch.float16).numpy())
            bar.update(len(part))
    write_json(seal, {"sha256": sha256_file(path)})
    return RowFile(path)


def _whole(path: Path, seal: Path) -> bool:
    """Whether a cache is as it was written; one that is not is made anew."""
    try:
        sealed: str = json.loads(seal.read_text(encoding="utf-8"))["sha256"]
        return sealed == sha256_file(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False
