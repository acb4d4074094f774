"""Data sets -> one table to train on: inspected, decoded once into a file beside the data, bad data refused.

Legend: N rows, S image side [px], L rows of an episode, A action dim, k frame skip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.check import dimension_names
from worldmodel.data.frames import FrameFile, frame_shape
from worldmodel.data.identity import data_key, file_digests, sums_sha256
from worldmodel.data.inspection import Defects, Numbers, inspect_frames, inspect_numbers, proprio_range
from worldmodel.data.reader import Dataset, open_datasets
from worldmodel.data.rows import RowFile
from worldmodel.data.schema import STATE
from worldmodel.data.table import Table
from worldmodel.errors import DataError, OutputError
from worldmodel.storage import atomic_file, sha256_file, write_json

Array = NDArray[Any]


@dataclass(frozen=True)
class Loaded:
    """A table with the sha256 that identifies it, the names of its proprioception, and what was left out of it.

    tasks: in words, in alphabetical order; the table knows them by their number.
    episodes: how many the data sets hold. skipped: the numbers of those left out. defects: why, one line each.
    """

    table: Table
    sha256: str
    proprio_names: tuple[str, ...]
    tasks: tuple[str, ...]
    episodes: int
    skipped: tuple[int, ...]
    defects: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """What a report says of it."""
        train, validation = self.table.split()
        return {
            "episodes": self.episodes,
            "train": len(train),
            "validation": len(validation),
            "skipped": list(self.skipped),
            "defects": list(self.defects),
        }

    def store_split(self, path: Path) -> None:
        """Write which episodes are trained on and which are held out, numbered through all data sets."""
        train, validation = self.table.split()
        write_json(path, {"train": train.tolist(), "validation": validation.tolist()})


def cache_of(paths: Sequence[str]) -> Path:
    """Where the frames and features of data sets lie: beside the first of them."""
    return Path(paths[0]).resolve().parent / ".cache"


def load_table(
    paths: Sequence[str],
    *,
    camera: str | None = None,
    frame_skip: int = 1,
    skip_bad_episodes: bool = False,
    side: int | None = None,
) -> Loaded:
    """All episodes of the data sets, frames in a file in `.cache` beside the first.

    camera: which one, where there are several. frame_skip: so many decisions become one, their actions concatenated.
    skip_bad_episodes: leave out the episodes that have a defect, instead of raising the first one.
    side: of the pictures that an encoder sees [px]; larger ones are kept in that size, None keeps all as they are.
    Raises DataError for whatever is wrong with the data, or where the data sets do not fit together, and OutputError
    where the folder beside them cannot be written or has no space.
    """
    places = [Path(path).resolve() for path in paths]
    if len(set(places)) < len(places):
        raise DataError(f"expected each data set once, got one twice in {', '.join(paths)}: it would be its own test")
    dataset, folder = open_datasets(paths, camera), cache_of(paths)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        got = f"{folder.parent} ({error.strerror})"
        raise OutputError(f"expected to keep decoded frames beside the data, got {got}: copy it elsewhere") from error
    digests, shape = file_digests(dataset, folder), frame_shape(dataset.image_shape, side)
    key = data_key(dataset, digests, frame_skip, None if shape == dataset.image_shape else side)
    files = [folder / name for name in (f"frames-{key[:16]}.npy", f"columns-{key[:16]}.npz", f"about-{key[:16]}.json")]
    about = _known(dataset, files)
    if about is None or (about["defects"] and not skip_bad_episodes):
        about = _build(dataset, files, shape, frame_skip, None if skip_bad_episodes else paths, digests)
    if about["skipped"]:
        print(f"left out {len(about['skipped'])} of {dataset.episodes} episodes: {about['skipped']}")
        key = hashlib.sha256(f"{key} without {about['skipped']}".encode()).hexdigest()
    columns = np.load(files[1], allow_pickle=False)
    frames = RowFile(files[0], len(columns["episode"]))
    words = [part.task(index) for part, index in dataset.places]
    tasks = tuple(sorted({words[episode] for episode in np.unique(columns["episode"])}))
    task = np.array([tasks.index(each) if each in tasks else -1 for each in words])[columns["episode"]]
    table = Table(frames, columns["actions"], columns["proprio"], columns["privileged"], columns["episode"], task)
    proprio = tuple(dimension_names(dataset.parts[0].info.features[STATE]))
    return Loaded(table, key, proprio, tasks, dataset.episodes, tuple(about["skipped"]), tuple(about["defects"]))


def _known(dataset: Dataset, files: Sequence[Path]) -> dict[str, Any] | None:
    """What an earlier run found, where its files are as it left them and the same sums are to be kept."""
    try:
        about: dict[str, Any] = json.loads(files[2].read_text(encoding="utf-8"))
        whole = all(sha256_file(path) == about["sha256"][path.name] for path in files[:2])
        return about if whole and about["sums"] == sums_sha256(dataset) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse(defects: Defects, paths: Sequence[str] | None) -> None:
    """Raise DataError for the first defect; paths None: only for one that leaving out episodes does not mend."""
    for message, episodes in defects.found.items():
        if paths is not None or not episodes:
            mend = f"; for all defects: worldmodel check data={','.join(paths or [])}" if paths else ""
            skip = "; skip_bad_episodes=true leaves bad episodes out" if episodes else ""
            raise DataError(f"{message}{mend}{skip}")


def _build(
    dataset: Dataset,
    files: Sequence[Path],
    shape: tuple[int, int],
    frame_skip: int,
    paths: Sequence[str] | None,
    digests: Mapping[Path, str],
) -> dict[str, Any]:
    """Inspect and decode; write the three files, the description last. shape: of a picture. paths: see `_refuse`."""
    defects = Defects()
    numbers = inspect_numbers(dataset, defects, digests)
    _refuse(defects, paths)
    bad = set(defects.episodes)
    good = {episode: found for episode, found in enumerate(numbers) if found and episode not in bad}
    total = sum(-(-len(found.times) // frame_skip) for found in good.values())
    span, row, width = proprio_range(numbers), 0, _truth_width(numbers)
    columns: dict[str, list[Array]] = {"actions": [], "proprio": [], "privileged": [], "episode": []}
    files[2].unlink(missing_ok=True)
    with (
        atomic_file(files[0]) as temporary,
        FrameFile(temporary, max(total, 1), shape) as frames,
        tqdm(total=total, unit="frame", desc="decode", mininterval=1.0) as bar,
    ):
        for episode, found in good.items():
            seen = inspect_frames(dataset, episode, found, span, defects, partial(frames.keep, row, frame_skip))
            _refuse(defects, paths)
            rows = -(-len(found.times) // frame_skip)
            bar.update(rows)
            if seen is None:
                continue
            row += rows
            for name, values in _columns(found, frame_skip, episode, width).items():
                columns[name].append(values)
        frames.end(row)
        if len(columns["episode"]) < 2:
            got = f"{len(columns['episode'])} of {dataset.episodes} in {dataset.parts[0].info.root}: record more"
            raise DataError(f"expected at least two good episodes, one of them to be held out, got {got}")
    with atomic_file(files[1]) as temporary, temporary.open("wb") as stream:
        joined: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
        np.savez(stream, **joined)
    about = {"sums": sums_sha256(dataset), "skipped": defects.episodes, "defects": list(defects.found)}
    about["sha256"] = {path.name: sha256_file(path) for path in files[:2]}
    write_json(files[2], about)
    return about


def _columns(found: Numbers, frame_skip: int, episode: int, width: int) -> Mapping[str, Array]:
    """An episode's rows for the table: each column of every k-th row, but the actions of all."""
    actions = concatenate_actions(found.actions, frame_skip)
    return {
        "actions": actions,
        "proprio": found.proprio[::frame_skip],
        "privileged": _truth(found.privileged, len(found.times), width)[::frame_skip],
        "episode": np.full(len(actions), episode, np.int64),
    }


def concatenate_actions(actions: NDArray[np.float32], frame_skip: int) -> NDArray[np.float32]:
    """[L,A] -> [ceil(L / k), k * A]: what is done between the frames that are kept.

    The last row, which no frame follows, is filled up with its last action.
    """
    rows = -(-len(actions) // frame_skip)
    missing = np.repeat(actions[-1:], rows * frame_skip - len(actions), axis=0)
    return np.concatenate([actions, missing]).reshape(rows, frame_skip * actions.shape[1])


def _truth_width(numbers: Sequence[Numbers | None]) -> int:
    """Of the widest truth among the episodes, and of one position at the least."""
    return max(3, *(0 if found is None or found.privileged is None else found.privileged.shape[1] for found in numbers))


def _truth(privileged: Array | None, length: int, width: int) -> Array:
    """So many columns of truth, NaN where there is none."""
    truth = np.full((length, width), np.nan, np.float32)
    if privileged is not None:
        truth[:, : privileged.shape[1]] = privileged
    return truth
