"""Faults 19, 24, 25, 26 and 37: files of a data set and of its cache that are cut, flipped, forged or missing."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.bundles import Payload
from tests.faults.harness import Fault, Lab, Tally, starve

DATA = "data/chunk-000/file-003.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
INFO = "meta/info.json"


def copy(lab: Lab, video: bool = False) -> Path:
    """A data set to be spoiled, in a folder of its own, so that its cache is its own, too."""
    source = toy.made(lab, "data-video", "data-video") if video else toy.data(lab)
    return Path(shutil.copytree(source, lab.fresh("data")))


def use(root: Path) -> Any:
    """What pretrain and train do with a data set."""
    from worldmodel.data.load import load_table

    shutil.rmtree(root.parent / ".cache", ignore_errors=True)
    return load_table([str(root)])


def contents(root: Path) -> dict[str, Any]:
    """All that is learned from a data set."""
    from worldmodel.data.reader import open_dataset

    dataset = open_dataset(root)
    episodes = [dataset.read_episode(index) for index in range(dataset.episodes)]
    arrays = {f"{name} {i}": value if (value := getattr(e, name)) is None else value.tobytes()
              for i, e in enumerate(episodes) for name in ("frames", "actions", "proprio", "privileged")}  # fmt: skip
    return {**arrays, "fps": dataset.fps, "lengths": dataset.lengths}


def mutated(tally: Tally, lab: Lab, root: Path, names: list[str], count: int) -> None:
    """Cuts, flips, zeroed and swapped ranges: refused, or what is read is what was there."""
    from worldmodel.errors import DataError

    rng, wanted = random.Random(19), contents(root)
    for _ in range(count):
        path = root / rng.choice(names)
        content = path.read_bytes()
        how, changed = rng.choice(("flip", "flip", "cut", "zeros", "noise")), bytearray(content)
        at = rng.randrange(len(content))
        if how == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del changed[at:]
        else:
            size = min(rng.randrange(1, 64), len(content) - at)
            changed[at : at + size] = bytes(size) if how == "zeros" else rng.randbytes(size)
        path.write_bytes(changed)
        found: list[Any] = []

        def read(found: list[Any] = found) -> None:
            use(root)
            found.append(contents(root) == wanted)
            raise DataError("expected other bytes" if found[0] else "silent")

        note = f"{how} at {at} of {path.name}"
        before = tally.detected
        if bytes(changed) == content:
            tally.count("harmless")
        else:
            tally.refused(note, read, "expected")
        if found == [True] and tally.detected > before:
            tally.detected, tally.harmless = tally.detected - 1, tally.harmless + 1
        if found == [False]:
            tally.wrong, tally.silent = tally.wrong - 1, tally.silent + 1
        path.write_bytes(content)


def rows(tally: Tally, lab: Lab) -> None:
    root = copy(lab)
    mutated(
        tally, lab, root, [f"data/chunk-000/file-{number:03d}.parquet" for number in range(12)], lab.times(24, 1500)
    )


def descriptions(tally: Tally, lab: Lab) -> None:
    root = copy(lab)
    mutated(tally, lab, root, [INFO, EPISODES, "meta/stats.json", "meta/SHA256SUMS"], lab.times(24, 1000))


def missing(tally: Tally, lab: Lab) -> None:
    from worldmodel.data.reader import open_dataset

    root = copy(lab)
    for name in (DATA, EPISODES, INFO):
        content = (root / name).read_bytes()
        for note, made in {"empty": b"", "of another kind": b"PK\x03\x04" + bytes(100)}.items():
            (root / name).write_bytes(made)
            tally.refused(f"{name} {note}", lambda: use(root), str(root))
        (root / name).unlink()
        tally.refused(f"no {name}", lambda: use(root), str(root))
        (root / name).write_bytes(content)
    shutil.rmtree(root / "data")
    tally.refused("no rows at all", lambda: use(root), str(root))
    tally.refused("no folder", lambda: open_dataset(root / "absent"), str(root))


def change_info(root: Path, **fields: Any) -> None:
    path = root / INFO
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def outside(tally: Tally, lab: Lab) -> None:
    """Path templates that leave the data set, or run something."""
    for template in (
        "../../etc/passwd", "/etc/passwd", "data/../../x.parquet", "data\\..\\x", "data/{chunk_index}/../../../x",
        "{chunk_index.__class__}", "{chunk_index!r}", "{0}", "{file_index:>99999999999}", "data/\0", "{", "{unknown}",
    ):  # fmt: skip
        root = copy(lab)
        change_info(root, data_path=template)
        tally.refused(f"data_path {template!r}", lambda root=root: use(root), "expected")
    root = copy(lab)
    (root / "meta/SHA256SUMS").write_text(f"{'0' * 64}  ../../../etc/passwd\n")
    try:
        use(root)
        tally.count("harmless")  # a name that belongs to no file of the data set is never opened
    except Exception as error:
        tally.count("wrong", f"a sum of a file outside: {error}")


def drift(tally: Tally, lab: Lab) -> None:
    """Descriptions that do not fit the files."""
    for name in ("total_episodes", "total_frames", "fps", "chunks_size"):
        for value in (0, -1, 10**12, 1.5, "5", None, True, [5], 7):
            if name == "chunks_size" and value in (7, 10**12):
                continue  # how many files a folder holds is said by each episode's row, too
            root = copy(lab)
            change_info(root, **{name: value})
            tally.refused(f"{name}={value!r}", lambda root=root: use(root), "expected")
    shapes: list[Any] = [[0], [-1], [1e9], ["x"], [2**31 - 1], [2**40], [], None, [3, 3]]
    for feature in ("action", "observation.state"):
        for shape in shapes:
            root = copy(lab)
            info = json.loads((root / INFO).read_text())
            info["features"][feature]["shape"] = shape
            change_info(root, features=info["features"])
            tally.refused(f"{feature} of shape {shape!r}", lambda root=root: use(root), "expected")


def bombs(tally: Tally, lab: Lab) -> None:
    """Little on disk, endless in memory: refused within 600 MB."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    def picture(side: int) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (side, side)).save(stream, "PNG")
        return stream.getvalue()

    huge = picture(9000)
    roots: dict[str, Path] = {}
    for note in ("camera of 10^18 pixels", "picture of 9000 x 9000", "cell of a gigabyte", "actions of a gigabyte"):
        root = roots[note] = copy(lab)
        if note.startswith("camera"):
            info = json.loads((root / INFO).read_text())
            info["features"]["observation.images.front"]["shape"] = [10**9, 10**9, 3]
            change_info(root, features=info["features"])
            continue
        table = pq.read_table(root / DATA)
        name = "action" if note.startswith("actions") else "observation.images.front"
        at = table.schema.get_field_index(name)
        if note.startswith("actions"):
            values = pa.array([[0.0] * 20_000_000] + [[0.0] * 2] * 11, pa.list_(pa.float32()))
        else:
            cell = {"bytes": huge if "picture" in note else bytes(10**9), "path": "a.png"}
            values = pa.array([cell, *table[name].to_pylist()[1:]], type=table.schema.field(at).type)
        pq.write_table(table.set_column(at, name, values), root / DATA)
    del huge
    starve(600 << 20)
    for note, root in roots.items():
        (root / "meta/SHA256SUMS").unlink(missing_ok=True)
        tally.refused(note, lambda root=root: use(root), "expected")


def objects(tally: Tally, lab: Lab) -> None:
    """A cache that holds pickled objects, or is cut or flipped: made anew, never opened as it is."""
    import numpy as np

    from worldmodel.data.load import load_table

    root, canary = copy(lab), lab.fresh("canary")
    cache = root.parent / ".cache"
    wanted = use(root).table
    frames = wanted.frames[:]

    def spoils(note: str, path: Path, spoil: Callable[[Path, bytes], Any]) -> None:
        content = path.read_bytes()
        spoil(path, content)
        try:
            found = load_table([str(root)]).table
            same = np.array_equal(found.frames[:], frames) and np.array_equal(found.actions, wanted.actions)
            tally.holds(same and not canary.exists(), note)
        except Exception as error:
            tally.count("wrong", f"{note}: {type(error).__name__}: {error}")

    def flip(path: Path, content: bytes) -> None:
        changed = bytearray(content)
        changed[-9] ^= 4
        path.write_bytes(changed)

    def pickled(path: Path, content: bytes) -> None:
        array = np.array([Payload(canary)], dtype=object)
        with path.open("wb") as stream:
            np.savez(stream, actions=array) if path.suffix == ".npz" else np.save(stream, array)

    for path in sorted(cache.iterdir()):
        spoils(f"{path.suffix} flipped", path, flip)
        spoils(f"{path.suffix} of objects", path, pickled)
        spoils(f"{path.suffix} a bare pickle", path, lambda p, c: p.write_bytes(pickle.dumps(Payload(canary))))
        for length in (0, 1, 0.5, -1):
            spoils(f"{path.suffix} cut to {length}", path, lambda p, c, n=length: p.write_bytes(
                c[: int(len(c) * n) if n == 0.5 else int(n)]))  # fmt: skip
        spoils(f"no {path.suffix}", path, lambda p, c: p.unlink())


def stale_features(tally: Tally, lab: Lab) -> None:
    """Features of another encoder, or damaged ones, are made anew."""
    import numpy as np
    import torch

    from worldmodel.data.cache import load_features
    from worldmodel.encoders import load_encoder

    table, folder, device = use(copy(lab)).table, lab.fresh("cache"), torch.device("cpu")
    folder.mkdir()
    encoder = load_encoder(toy.encoder(lab))
    encoder.model.set_attn_implementation("eager")
    wanted = load_features(encoder, table.frames, "a" * 32, folder, lambda x: x, device)[:]
    path, seal = folder / f"features-{'a' * 32}.npy", folder / f"features-{'a' * 32}.json"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-7] ^= 64
    for note, file, made in (
        ("flipped", path, bytes(flipped)), ("cut", path, content[:-100]), ("empty", path, b""),
        ("of objects", path, pickle.dumps(1)), ("seal cut", seal, b"{"), ("seal of another kind", seal, b"[1]"),
    ):  # fmt: skip
        file.write_bytes(made)
        try:
            found = load_features(encoder, table.frames, "a" * 32, folder, lambda x: x, device)
            tally.holds(np.array_equal(found[:], wanted), note)
        except Exception as error:
            tally.count("wrong", f"{note}: {type(error).__name__}: {error}")
    names = (
        {p.name for p in (toy.data(lab).parent / ".cache").glob("features-*.npy")} if toy.whole("train", lab) else set()
    )
    tally.holds(len(names) >= 1 and all(len(name) == len("features-.npy") + 32 for name in names), "keys of the cache")


def links(tally: Tally, lab: Lab) -> None:
    """Links are how a hub's cache keeps data sets: they are followed for reading; dangling ones are refused."""
    root = copy(lab)
    wanted = contents(root)
    moved = root.parent / "blob"
    os.rename(root / DATA, moved)
    (root / DATA).symlink_to(moved)
    tally.count("harmless" if contents(root) == wanted else "silent", "a link")
    moved.unlink()
    tally.refused("a dangling link", lambda: use(root), str(root / DATA))
    (root / DATA).unlink()
    (root / DATA).symlink_to(root / DATA)
    tally.refused("a link to itself", lambda: use(root), str(root / DATA))


FAULTS = (
    Fault(19, "rows of a data set cut, flipped, overwritten", "refused, or the same is read", rows),
    Fault(19, "descriptions of a data set cut, flipped, overwritten", "refused, or the same is read", descriptions),
    Fault(19, "files of a data set missing, empty, of another kind", "refused, naming the file", missing),
    Fault(24, "cache with pickled objects, cut, flipped", "made anew; canary absent", objects, guards=("sha256",)),
    Fault(25, "bombs among the data", "refused within 600 MB", bombs),
    Fault(26, "path templates that leave the data set", "refused", outside),
    Fault(26, "counts and shapes that do not fit the files", "refused", drift),
    Fault(26, "symbolic links in a data set", "followed for reading; dangling ones refused", links),
    Fault(37, "features of another encoder, damaged features", "made anew", stale_features, guards=("sha256",)),
)
