"""What is wrong with a data set: everything is read, and every defect kept instead of raised.

The numbers of all episodes come first, since they are quick to read and say how far the robot moves; then the frames.
Legend: L rows of an episode, h, w picture size [px], P proprioception dim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worldmodel.data.reader import Dataset, Part
from worldmodel.data.schema import ACTION, PRIVILEGED, STATE
from worldmodel.data.writer import SUMS_PATH
from worldmodel.errors import DataError
from worldmodel.storage import sha256_file

LEAST_CONTRAST = 1.0  # [grey levels] standard deviation over a picture; a camera that sees anything has more
GRID = 64  # contrast is measured on about this many pixels a side
SAME_LEVELS = 3  # a pixel that changes by no more may have changed in the compression only
FROZEN_STEPS = 5  # so many steps without a change in the picture
MOVED_SHARE = 0.05  # ... while most of the proprioception went through this share of its range


@dataclass(frozen=True)
class Numbers:
    """All of an episode but its pictures: times [L] [s], float32 actions [L,A], proprio [L,P], privileged [L,Q]."""

    times: NDArray[np.float64]
    actions: NDArray[np.float32]
    proprio: NDArray[np.float32]
    privileged: NDArray[np.float32] | None


class Defects:
    """One-line messages, each with the episodes (numbered as in the Dataset) that it makes unusable."""

    def __init__(self) -> None:
        self.found: dict[str, list[int]] = {}

    def add(self, message: str, *episodes: int) -> None:
        """Keep a defect; the same message of another episode, as of a damaged file, is the same defect."""
        known = self.found.setdefault(message, [])
        known += [episode for episode in episodes if episode not in known]

    @contextmanager
    def caught(self, *episodes: int) -> Iterator[None]:
        """Keep what is raised inside as a defect of the episodes."""
        try:
            yield
        except DataError as error:
            self.add(str(error), *episodes)

    @property
    def episodes(self) -> list[int]:
        """Every episode that has a defect, in order."""
        return sorted({episode for episodes in self.found.values() for episode in episodes})


def inspect_numbers(dataset: Dataset, defects: Defects) -> list[Numbers | None]:
    """The numbers of every episode, None where they cannot be used; files are held against their sha256 on the way."""
    sums: dict[Part, Mapping[Path, str]] = {}
    for part in dataset.parts:
        with defects.caught():
            sums[part] = read_sums(part.info.root)
    damaged: dict[Path, str | None] = {}
    found = []
    for episode, (part, index) in enumerate(
        tqdm(dataset.places, unit="episode", desc="read numbers", mininterval=1.0, leave=False)
    ):
        for path in part.files_of(index):
            if path not in damaged:
                damaged[path] = wrong_bytes(path, sums.get(part, {}).get(path))
            if message := damaged[path]:
                defects.add(message, episode)
        found.append(_numbers(part, index, episode, defects))
    return found


def _numbers(part: Part, index: int, episode: int, defects: Defects) -> Numbers | None:
    vectors = {}
    with defects.caught(episode):
        table = part.table(index)
        for name in part.vectors:
            with defects.caught(episode):
                vectors[name] = part.vector(index, table, name)
        times = part.times(index, table)
        if len(vectors) == len(part.vectors):
            return Numbers(times, vectors[ACTION], vectors[STATE], vectors.get(PRIVILEGED))
    return None


def read_sums(root: Path) -> Mapping[Path, str]:
    """The sha256 by file that the writer left; empty for data of others. Raises DataError for lines that are none."""
    path = root / SUMS_PATH
    if not path.is_file():
        return {}
    sums = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, gap, name = line.partition("  ")
        if not gap or len(digest) != 64:
            raise DataError(f"expected lines of sha256 and file in {path}, got {line[:80]!r}: restore the file")
        sums[root / name] = digest
    return sums


def wrong_bytes(path: Path, digest: str | None) -> str | None:
    """What is wrong with the bytes of a file, where its sha256 is known."""
    if digest is None or not path.is_file():
        return None
    got = sha256_file(path)
    return None if got == digest else f"expected sha256 {digest[:12]} for {path}, got {got[:12]}: copy the file again"


def proprio_range(numbers: Sequence[Numbers | None]) -> NDArray[np.float64]:
    """How far each coordinate of the proprioception goes: [P]; zero where nothing could be read."""
    known = [episode.proprio for episode in numbers if episode is not None]
    span: NDArray[np.float64] = np.ptp(np.concatenate(known).astype(np.float64), axis=0) if known else np.zeros(1)
    return span


def inspect_frames(
    dataset: Dataset, episode: int, numbers: Numbers, span: NDArray[np.float64], defects: Defects
) -> NDArray[np.uint8] | None:
    """The frames of an episode, uint8 [L,h,w,3], or None; span: see `proprio_range`."""
    part, index = dataset.places[episode]
    own, frames = Defects(), None
    with own.caught(episode):
        frames = part.frames(index, numbers.times)
        where = f"of episode {index} from camera {part.camera.name!r} in {part.files_of(index)[-1]}"
        with own.caught(episode):
            require_contrast(frames, where)
        require_motion(frames, numbers.proprio, span, where)
    for message in own.found:
        defects.add(message, episode)
    return None if own.found else frames


def contrast(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standard deviation over each picture [grey levels], of the liveliest channel: uint8 [L,h,w,3] -> [L]."""
    rows, columns = (max(1, side // GRID) for side in frames.shape[1:3])
    found: NDArray[np.float64] = frames[:, ::rows, ::columns].std(axis=(1, 2)).max(axis=-1)
    return found


def require_contrast(frames: NDArray[np.uint8], where: str) -> None:
    """Raise DataError for pictures of one colour: nothing was rendered, or the camera was covered."""
    blank = np.flatnonzero(contrast(frames) < LEAST_CONTRAST)
    if len(blank):
        level = frames[blank[0]].mean()
        got = f"{len(blank)} of {len(frames)} of one colour (grey level {level:.0f}), the first in row {blank[0]}"
        raise DataError(f"expected pictures that show something, got {got} {where}")


def require_motion(
    frames: NDArray[np.uint8], proprio: NDArray[np.float32], span: NDArray[np.float64], where: str
) -> None:
    """Raise DataError where the picture stands still while the robot moves: a camera or renderer that died quietly."""
    same = [int((np.maximum(a, b) - np.minimum(a, b)).max()) <= SAME_LEVELS for a, b in pairwise(frames)]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    alive = span > 0
    for start, stop in edges.reshape(-1, 2):
        if stop - start < FROZEN_STEPS or not alive.any():
            continue
        part = proprio[start : stop + 1, alive]
        moved = (part.max(axis=0) - part.min(axis=0)) / span[alive]
        if np.median(moved) > MOVED_SHARE:
            got = f"the same picture in rows {start} to {stop}, in which the robot moved {where}"
            raise DataError(f"expected pictures that change as the robot moves, got {got}")
