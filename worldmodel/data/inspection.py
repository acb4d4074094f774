"""What is wrong with a data set: everything is read, and every defect kept instead of raised.

The numbers of all episodes come first, since they are quick to read and say how far the robot moves; then the frames.
Legend: L rows of an episode, h, w picture size [px], P proprioception dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Seen:
    """Of an episode's pictures, each float64 [L] in grey levels: their mean, and their `contrast`."""

    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]


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


def inspect_numbers(
    dataset: Dataset, defects: Defects, known: Mapping[Path, str] | None = None
) -> list[Numbers | None]:
    """The numbers of every episode, None where they cannot be used; files are held against their sha256 on the way.

    known: the sha256 that files have, where they were read for it already.
    """
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
                damaged[path] = wrong_bytes(path, sums.get(part, {}).get(path), (known or {}).get(path))
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


def wrong_bytes(path: Path, digest: str | None, known: str | None = None) -> str | None:
    """What is wrong with the bytes of a file that should have the sha256 `digest`; known: the one it has."""
    if digest is None or not path.is_file():
        return None
    got = known or sha256_file(path)
    return None if got == digest else f"expected sha256 {digest[:12]} for {path}, got {got[:12]}: copy the file again"


def proprio_range(numbers: Sequence[Numbers | None]) -> NDArray[np.float64]:
    """How far each coordinate of the proprioception goes: [P]; zero where nothing could be read."""
    known = [episode.proprio for episode in numbers if episode is not None]
    span: NDArray[np.float64] = np.ptp(np.concatenate(known).astype(np.float64), axis=0) if known else np.zeros(1)
    return span


def inspect_frames(
    dataset: Dataset,
    episode: int,
    numbers: Numbers,
    span: NDArray[np.float64],
    defects: Defects,
    use: Callable[[int, NDArray[np.uint8]], None] | None = None,
) -> Seen | None:
    """Look at the pictures of an episode one by one; None where they have a defect. span: see `proprio_range`.

    use: called with each row and its picture uint8 [h,w,3] on the way, before anything is known of those that follow.
    """
    part, index = dataset.places[episode]
    own, seen = Defects(), None
    with own.caught(episode):
        where = f"of episode {index} from camera {part.camera.name!r} in {part.files_of(index)[-1]}"
        seen, same = look(part.pictures(index, numbers.times), use)
        with own.caught(episode):
            require_contrast(seen, where)
        require_motion(same, numbers.proprio, span, where)
    for message in own.found:
        defects.add(message, episode)
    return None if own.found else seen


def look(
    pictures: Iterable[NDArray[np.uint8]], use: Callable[[int, NDArray[np.uint8]], None] | None = None
) -> tuple[Seen, list[bool]]:
    """What the pictures show, and of each but the first whether it is the same as the one before."""
    brightness, contrasts, same, last = list[float](), list[float](), list[bool](), None
    for row, picture in enumerate(pictures):
        brightness.append(float(picture.mean()))
        contrasts.append(contrast(picture))
        if last is not None:
            same.append(int((np.maximum(last, picture) - np.minimum(last, picture)).max()) <= SAME_LEVELS)
        last = picture
        if use is not None:
            use(row, picture)
    return Seen(np.array(brightness), np.array(contrasts)), same


def contrast(picture: NDArray[np.uint8]) -> float:
    """Standard deviation over a picture uint8 [h,w,3], of the liveliest channel [grey levels]."""
    rows, columns = (max(1, side // GRID) for side in picture.shape[:2])
    return float(picture[::rows, ::columns].std(axis=(0, 1)).max())


def require_contrast(seen: Seen, where: str) -> None:
    """Raise DataError for pictures of one colour: nothing was rendered, or the camera was covered."""
    blank = np.flatnonzero(seen.contrast < LEAST_CONTRAST)
    if len(blank):
        level, count = seen.brightness[blank[0]], f"{len(blank)} of {len(seen.contrast)}"
        got = f"{count} of one colour (grey level {level:.0f}), the first in row {blank[0]} {where}"
        raise DataError(f"expected pictures that show something, got {got}: record it again")


def require_motion(same: Sequence[bool], proprio: NDArray[np.float32], span: NDArray[np.float64], where: str) -> None:
    """Raise DataError where the picture stands still while the robot moves: a camera or renderer that died quietly.

    same: of each row but the first, whether its picture is that of the row before.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    alive = span > 0
    for start, stop in edges.reshape(-1, 2):
        if stop - start < FROZEN_STEPS or not alive.any():
            continue
        part = proprio[start : stop + 1, alive]
        moved = (part.max(axis=0) - part.min(axis=0)) / span[alive]
        if np.median(moved) > MOVED_SHARE:
            got = f"the same picture in rows {start} to {stop}, in which the robot moved {where}"
            raise DataError(f"expected pictures that change as the robot moves, got {got}: record it again")
