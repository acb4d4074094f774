"""Faults 19 to 23, 28 to 31 and 36: rows that are whole on disk and wrong in what they say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.data_files import DATA, change_info, copy, use
from tests.faults.harness import Fault, Lab, Tally

EPISODES = "meta/episodes/chunk-000/file-000.parquet"
CAMERA = "observation.images.front"


def change_column(root: Path, name: str, change: Callable[[list[Any]], list[Any]], file: str = DATA) -> None:
    """Rewrite one column of a parquet file as another tool would, without the sums of this project."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "meta/SHA256SUMS").unlink(missing_ok=True)
    table = pq.read_table(root / file)
    at = table.schema.get_field_index(name)
    values = pa.array(change(table[name].to_pylist()), type=table.schema.field(at).type)
    pq.write_table(table.set_column(at, name, values), root / file)


def put(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:row], value, *values[row + 1 :]]


def not_finite(tally: Tally, lab: Lab) -> None:
    """In every vector, at the first, a middle and the last row, read and written."""
    for name, size in (("action", 2), ("observation.state", 4), ("privileged.state", 3)):
        for value in (float("nan"), float("inf"), float("-inf")):
            for row in (0, 6, 11):
                root = copy(lab)
                change_column(root, name, put(row, [0.0] * (size - 1) + [value]))
                tally.refused(f"{name} {value} in row {row}", lambda root=root: use(root), name, f"row {row}", "finite")
    for fields in ("proprio", "actions", "privileged"):
        for value in (float("nan"), float("inf")):
            tally.refused(f"writing {fields} {value}", partial(write, lab, fields, spoil(value)), "finite", "row 11")


def replaced(tally: Tally, lab: Lab) -> None:
    """Rows written anew with other actions: well-formed, and not those that the data set's list of sums knows."""
    for number in range(3):
        root, file = copy(lab), f"data/chunk-000/file-{number:03d}.parquet"
        sums = (root / "meta/SHA256SUMS").read_bytes()
        change_column(root, "action", lambda values: values[::-1], file)
        (root / "meta/SHA256SUMS").write_bytes(sums)
        tally.refused(f"other rows in {file}", lambda root=root: use(root), "expected sha256", file)


def spoil(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[-1, -1] = value
        return array

    return change


def write(lab: Lab, fields: str = "", change: Callable[[Any], Any] = lambda array: array) -> Path:
    """Write one episode of 12 rows with one of its arrays changed."""
    import numpy as np

    from worldmodel.data.layout import Layout
    from worldmodel.data.writer import Rollout, write_episode

    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(12, n)).astype(np.float32) for n in (4, 2, 3)]
    rollout = Rollout({"front": rng.integers(0, 255, (12, 8, 10, 3), np.uint8)}, *vectors)
    if fields == "frames":
        rollout = dataclasses.replace(rollout, frames={"front": change(rollout.frames["front"])})
    elif fields:
        rollout = dataclasses.replace(rollout, **{fields: change(getattr(rollout, fields))})
    root = lab.fresh("written")
    write_episode(root, Layout(5, 4, 2, {"front": (8, 10)}, privileged_dim=3), rollout, episode=0, start=0, task="x")
    return root


def misshapen(tally: Tally, lab: Lab) -> None:
    """Lengths that do not agree, written, and rows that are another's, read."""
    import numpy as np

    lengths: dict[str, Callable[[Any], Any]] = {
        "one row less": lambda a: a[:-1], "one row more": lambda a: np.concatenate([a, a[-1:]]), "none": lambda a: a[:0]
    }  # fmt: skip
    refused_each(tally, lab, ("proprio", "actions", "privileged", "frames"), lengths)
    for name, value in (("frame_index", 3), ("episode_index", 9), ("index", 0), ("timestamp", 9.0)):
        root = copy(lab)
        change_column(root, name, put(5, value))
        tally.refused(f"{name} of another row", lambda root=root: use(root), "expected", "row 5")


def refused_each(tally: Tally, lab: Lab, fields: tuple[str, ...], changes: dict[str, Callable[[Any], Any]]) -> None:
    """Write an episode with each of the changes in each of the fields."""
    for name in fields:
        for note, change in changes.items():
            tally.refused(f"{name}: {note}", partial(write, lab, name, change), "expected", "got")


def mistyped(tally: Tally, lab: Lab) -> None:
    """Sizes, types and layouts of arrays other than was agreed: nothing is cast or turned in silence."""
    import numpy as np

    vectors: dict[str, Callable[[Any], Any]] = {
        "a dimension less": lambda a: a[:, :-1], "flat": lambda a: a.ravel(), "float64": lambda a: a.astype(np.float64),
        "int32": lambda a: a.astype(np.int32), "float16": lambda a: a.astype(np.float16),
        "objects": lambda a: a.astype(object), "complex": lambda a: a.astype(np.complex64),
    }  # fmt: skip
    refused_each(tally, lab, ("proprio", "actions", "privileged"), vectors)
    pictures: dict[str, Callable[[Any], Any]] = {
        "channels first": lambda a: a.transpose(0, 3, 1, 2), "turned": lambda a: a.transpose(0, 2, 1, 3),
        "with alpha": lambda a: np.pad(a, ((0, 0),) * 3 + ((0, 1),)),
        "grey": lambda a: a[..., :1], "no channels": lambda a: a[..., 0], "floats": lambda a: a / np.float32(255),
        "int64": lambda a: a.astype(np.int64), "bool": lambda a: a > 9,
    }  # fmt: skip
    refused_each(tally, lab, ("frames",), pictures)
    whole = write(lab)
    same = write(lab, "frames", lambda a: np.asfortranarray(a))
    tally.count("harmless" if toy.tree(whole) == toy.tree(same) else "silent", "another order in memory")


def empty(tally: Tally, lab: Lab) -> None:
    """Episodes without rows, or shorter than what is asked of them."""
    for length in (0, -1, 10**12):
        root = copy(lab)
        change_column(root, "length", put(3, length), EPISODES)
        tally.refused(f"an episode of {length} rows", lambda root=root: use(root), "expected", "episode")
    table = use(copy(lab)).table
    for window in (12, 13, 100):
        starts = table.window_starts(window, table.split()[0])
        legal = len(starts) == (len(table.split()[0]) if window == 12 else 0)
        tally.holds(legal, f"{len(starts)} windows of {window} in episodes of 12")
    words = [word for word in toy.words("train", lab, lab.fresh("out")) if not word.startswith("window=")]
    tally.refused("a window longer than every episode", partial(command, [*words, "window=50"]), "episodes", "window")


def command(words: list[str]) -> None:
    """Run a command in this process; raises what it says."""
    from worldmodel.cli import run

    toy.often()
    run(words, [])


def dead_cameras(tally: Tally, lab: Lab) -> None:
    """A renderer that died quietly while the robot went on: black or frozen pictures."""
    import numpy as np

    from worldmodel.data.images import png_bytes

    for note in ("dark", "frozen"):
        out = lab.fresh("collected")
        try:
            toy.collect(out, 3, **{note: True})
        except Exception as error:
            tally.count("detected" if "expected" in str(error) else "wrong", f"{note}: {error}")
            continue
        tally.refused(f"{note}, collected", lambda out=out: use(out), "expected pictures")
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for level in (np.zeros_like(noise), np.full_like(noise, 255), np.full_like(noise, 127)):
        root, data = copy(lab), png_bytes(level)
        change_column(root, CAMERA, put(7, {"bytes": data, "path": "a.png"}))
        tally.refused(
            f"one picture of grey {level[0, 0, 0]}", lambda root=root: use(root), "expected pictures", "row 7"
        )
    root, data = copy(lab), png_bytes(noise)
    change_column(root, CAMERA, lambda cells: [{"bytes": data, "path": "a.png"}] * len(cells))
    tally.refused("the same picture all along", lambda: use(root), "expected pictures that change")


def constant(tally: Tally, lab: Lab) -> None:
    """Dimensions that never change, or are extreme: statistics stay finite, nothing is divided by zero."""
    import numpy as np
    import torch

    from worldmodel.projector import FeatureNorm
    from worldmodel.training.fit import fit_statistics

    model_table = use(copy(lab)).table
    for value in (0.0, 1.0, 1e-30, 1e6):
        from worldmodel.bundle import load

        model: Any = load(toy.model(lab))
        table = dataclasses.replace(
            model_table,
            actions=np.full_like(model_table.actions, value),
            proprio=np.full_like(model_table.proprio, value),
        )
        fit_statistics(model, table, table.split()[0])
        state = [v for v in model.state_dict().values() if v.is_floating_point()]
        tally.holds(all(bool(torch.isfinite(v).all()) for v in state), f"constant {value}")
        norm = FeatureNorm(4, 8)
        features = torch.full((10, 4, 8), value)
        norm.fit(features)
        tally.holds(bool(torch.isfinite(norm(features)).all()), f"features all {value}")


def mixed(tally: Tally, lab: Lab) -> None:
    """Data sets of another rate, picture size or dimension are not trained on as one."""
    from worldmodel.data.load import load_table

    first, video = copy(lab), copy(lab)
    change_info(video, fps=10)
    change_column(video, "timestamp", lambda values: [value / 2 for value in values])
    for number in range(12):
        change_column(
            video, "timestamp", lambda v: [i / 10 for i in range(len(v))], f"data/chunk-000/file-{number:03d}.parquet"
        )
    golden = toy.ROOT / "tests/golden"
    for note, other in {
        "rate": video,
        "sizes": golden / "lerobot_v3_image",
        "video": golden / "lerobot_v3_video",
    }.items():
        tally.refused(
            f"another {note}", lambda other=other: load_table([str(first), str(other)]), "expected", str(other)
        )


def leaks(tally: Tally, lab: Lab) -> None:
    """Nothing is measured on what it was trained on."""
    import numpy as np

    from benchmarks.protocol import episodes_range
    from worldmodel.data.collect import collect
    from worldmodel.data.load import load_table

    settings: dict[str, Any] = {"env_id": toy.ENV_ID, "env_kwargs": {}, "steps": 3, "workers": 1}
    for seed, episodes in ((100_000, 1), (99_999, 2), (1_000_000, 3), (0, 100_001)):
        out = str(lab.fresh("out"))
        call = partial(collect, **settings, out=out, seed=seed, episodes=episodes)
        tally.refused(f"collecting seeds from {seed}", call, "training seeds below 100000")
        tally.holds(not Path(out).exists(), "a folder was made")
    for seed, episodes in ((99_999, 2), (199_999, 2), (300_000, 1), (999_999, 2)):
        tally.refused(f"episodes from {seed}", partial(episodes_range, seed, episodes), "expected")
    root = copy(lab)
    train, held = load_table([str(root)]).table.split()
    tally.holds(not np.intersect1d(train, held).size and len(held) >= 1, "episodes trained on and held out")
    alias = root.parent / "alias"
    alias.symlink_to(root)
    for again in (root, alias):
        tally.refused("the same data twice", partial(load_table, [str(root), str(again)]), "twice")


def too_little(tally: Tally, lab: Lab) -> None:
    """No steps, one episode, a batch beyond the data."""
    from worldmodel.cli import main

    for word in ("steps=-1", "batch_size=0", "window=0", "learning_rate=nan"):
        words = [w for w in toy.words("train", lab, lab.fresh("out")) if not w.startswith(word.partition("=")[0] + "=")]
        tally.holds(main([*words, word]) == 2, word)
    small = lab.fresh("small")
    toy.collect(small, 1)
    tally.refused("one episode", lambda: use(small), "expected at least two good episodes")
    words = [w for w in toy.words("pretrain", lab, lab.fresh("out")) if not w.startswith("batch_size=")]
    tally.count("harmless" if main([*words, "batch_size=400"]) in (0, 2) else "silent", "a batch beyond the data")
    assert json  # the data is drawn with replacement: any batch can be filled


FAULTS = (
    Fault(19, "rows replaced by others that are whole", "refused, naming the file", replaced, guards=("sha256",)),
    Fault(
        20,
        "NaN or infinity in actions, proprioception, truth",
        "refused at reading and at writing, naming the row",
        not_finite,
    ),
    Fault(
        21,
        "lengths that do not agree, rows of another episode",
        "refused with what was expected and what came",
        misshapen,
    ),
    Fault(22, "sizes, types and layouts other than agreed", "refused; nothing is cast in silence", mistyped),
    Fault(23, "empty episodes, episodes shorter than a window", "refused; short ones are not drawn from", empty),
    Fault(28, "black and frozen pictures", "refused, naming the episode", dead_cameras),
    Fault(29, "dimensions that never change or are extreme", "statistics stay finite", constant),
    Fault(30, "data sets of another rate, size, dimension", "refused, naming the difference", mixed),
    Fault(31, "the same seeds or data in training and evaluation", "refused; splits are disjoint", leaks),
    Fault(36, "too few steps, episodes or clips", "refused at the start", too_little),
)
