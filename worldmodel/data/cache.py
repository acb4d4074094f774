"""Decode frames once, encode them once: memory maps beside the data, keyed by what they were made from.

Legend: N rows, S image side [px], M encoder tokens, F their width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.reader import Dataset, open_dataset
from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.storage import atomic_file, sha256_file, write_json
from worldmodel.types import Encoder

Array = NDArray[Any]
FORMAT = 1


def data_key(datasets: Sequence[Dataset]) -> str:
    """Identifies the data by the names and sizes of its files and the content of its statistics."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for dataset in datasets:
        for path in dataset.files():
            digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        for root in sorted({str(part.info.root) for part in dataset.parts}):
            digest.update(sha256_file(Path(root) / "meta" / "stats.json").encode())
    return digest.hexdigest()


def load_table(paths: Sequence[str]) -> tuple[Table, str]:
    """All episodes of the data sets, frames in a memory map in `.cache` beside the first, and the data's key.

    Raises DataError for whatever is wrong with the data, or where the data sets do not fit together.
    """
    datasets = [open_dataset(path) for path in paths]
    key = data_key(datasets)
    folder = Path(paths[0]).resolve().parent / ".cache"
    folder.mkdir(exist_ok=True)
    frames_path, columns_path = folder / f"frames-{key[:16]}.npy", folder / f"columns-{key[:16]}.npz"
    if not (frames_path.exists() and columns_path.exists()):
        _decode(datasets, frames_path, columns_path)
    columns = np.load(columns_path, allow_pickle=False)
    frames = np.load(frames_path, mmap_mode="r", allow_pickle=False)
    return Table(frames, columns["actions"], columns["proprio"], columns["privileged"], columns["episode"]), key


def _agree(datasets: Sequence[Dataset]) -> None:
    first = datasets[0].read_episode(0)
    for dataset in datasets[1:]:
        other = dataset.read_episode(0)
        for name in ("frames", "actions", "proprio"):
            expected, got = getattr(first, name).shape[1:], getattr(other, name).shape[1:]
            if expected != got:
                raise DataError(
                    f"expected {name} of shape {expected} in every data set, got {got}: train on them one by one"
                )


def _decode(datasets: Sequence[Dataset], frames_path: Path, columns_path: Path) -> None:
    _agree(datasets)
    total = sum(sum(dataset.lengths) for dataset in datasets)
    shape = datasets[0].read_episode(0).frames.shape[1:]
    columns: dict[str, list[Array]] = {"actions": [], "proprio": [], "privileged": [], "episode": []}
    with atomic_file(frames_path) as temporary, tqdm(total=total, unit="frame", desc="decode", mininterval=1.0) as bar:
        frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(total, *shape))
        row, number = 0, 0
        for dataset in datasets:
            for index in range(len(dataset.lengths)):
                episode = dataset.read_episode(index)
                length = len(episode.frames)
                frames[row : row + length] = episode.frames
                columns["actions"].append(episode.actions)
                columns["proprio"].append(episode.proprio)
                columns["privileged"].append(_truth(episode.privileged, length))
                columns["episode"].append(np.full(length, number, np.int64))
                row, number = row + length, number + 1
                bar.update(length)
        frames.flush()
        del frames
    with atomic_file(columns_path) as temporary, temporary.open("wb") as stream:
        joined: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
        np.savez(stream, **joined)


def _truth(privileged: Array | None, length: int) -> Array:
    """Three columns of truth for probes, NaN where there is none."""
    truth = np.full((length, 3), np.nan, np.float32)
    if privileged is not None:
        width = min(3, privileged.shape[1])
        truth[:, :width] = privileged[:, :width]
    return truth


def encode_rows(encoder: Encoder, frames: Array, device: torch.device, batch: int = 64) -> Tensor:
    """Features float32 [n,M,F] of frames uint8 [n,S,S,3], on the CPU."""
    parts = []
    for start in range(0, len(frames), batch):
        chunk = torch.from_numpy(np.array(frames[start : start + batch])).to(device)
        parts.append(encoder(chunk.unsqueeze(1)).squeeze(1).cpu())
    return torch.cat(parts)


def load_features(
    encoder: Encoder,
    table: Table,
    name: str,
    folder: Path,
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
) -> Array:
    """Normalised features of every row, float16 [N,M,F], a memory map; computed once under `name`. Raises DataError."""
    path, seal = folder / f"features-{name[:32]}.npy", folder / f"features-{name[:32]}.json"
    if path.exists() and seal.exists():
        if json.loads(seal.read_text(encoding="utf-8"))["bytes"] != path.stat().st_size:
            raise DataError(f"expected the whole feature cache {path}, got {path.stat().st_size} bytes: remove it")
        cached: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return cached
    total, batch = len(table), 64
    with atomic_file(path) as temporary, tqdm(total=total, unit="frame", desc="encode", mininterval=1.0) as bar:
        shape = (total, encoder.tokens, encoder.width)
        features = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for start in range(0, total, batch):
            part = normalise(encode_rows(encoder, table.frames[start : start + batch], device))
            features[start : start + len(part)] = part.to(torch.float16).numpy()
            bar.update(len(part))
        features.flush()
        del features
    write_json(seal, {"bytes": path.stat().st_size})
    loaded: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded
