"""Faults 4 to 8 and 10 to 14: checkpoints that are cut, flipped, foreign, poisoned, or never fit on the disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.harness import Fault, Lab, Tally, starve

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "MANIFEST.json"
NEWEST = "step-00000002"


def parts() -> tuple[Any, Any]:
    """A layer and an optimiser that has made a step."""
    import torch

    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return layer, optimizer


def save(folder: Path, step: int, change: Callable[[Any], Any] | None = None) -> None:
    """A checkpoint whose weights are all equal to its step."""
    import torch

    from worldmodel.training.checkpoint import save_checkpoint

    layer, optimizer = parts()
    with torch.no_grad():
        layer.weight.fill_(float(step))
    if change is not None:
        change(layer)
    save_checkpoint(folder, step, {"layer": layer}, optimizer, {})


def load(folder: Path) -> tuple[Any, Any]:
    """The step that is restored, and the weight that came with it."""
    from worldmodel.training.checkpoint import load_checkpoint

    layer, optimizer = parts()
    state = load_checkpoint(folder, {"layer": layer}, optimizer)
    return (None, None) if state is None else (state["step"], float(layer.weight.detach().mean()))


def two(lab: Lab) -> Path:
    """A folder with checkpoints of the steps 1 and 2."""
    folder = lab.fresh("checkpoints")
    for step in (1, 2):
        save(folder, step)
    return folder


def falls_back(tally: Tally, folder: Path, note: str, to: int = 1, named: str = NEWEST) -> None:
    """The damaged checkpoint is named in a warning, and the older one restored."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            found = load(folder)
        except Exception as error:
            tally.count("wrong", f"{note}: {type(error).__name__}: {error}")
            return
    told = not named or any(named in str(warning.message) for warning in seen)
    tally.holds(found == (to, float(to)) and told, f"{note}: restored {found}, warned {told}")


def seal(folder: Path) -> None:
    """A manifest that fits whatever lies in the folder, as a forger would write it."""
    from worldmodel.storage import sha256_file

    (folder / MANIFEST).write_text(json.dumps({name: sha256_file(folder / name) for name in (TENSORS, STATE)}))


def truncated(tally: Tally, lab: Lab) -> None:
    folder = two(lab)
    for name in (TENSORS, STATE, MANIFEST):
        path = folder / NEWEST / name
        content = path.read_bytes()
        for length in (0, 1, 7, len(content) // 2, len(content) - 2, len(content) - 1):
            path.write_bytes(content[:length])
            if name == MANIFEST and content[:length].strip() == content.strip():
                continue  # the last byte is a line break
            falls_back(tally, folder, f"{name} cut to {length}")
        path.write_bytes(content)
    shutil.rmtree(folder / "step-00000001")
    (folder / NEWEST / TENSORS).write_bytes(b"")
    tally.refused("all damaged", lambda: load(folder), "expected a whole checkpoint", str(folder))


def flipped(tally: Tally, lab: Lab) -> None:
    folder, rng = two(lab), random.Random(5)
    for _ in range(lab.times(150, 2000)):
        path = folder / NEWEST / rng.choice((TENSORS, STATE, MANIFEST))
        content = path.read_bytes()
        position, bit = rng.randrange(len(content)), rng.randrange(8)
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        try:
            same = json.loads(changed) == json.loads(content) if path.name == MANIFEST else False
        except ValueError:
            same = False
        if same:  # one kind of white space for another
            tally.count("harmless")
        else:
            falls_back(tally, folder, f"bit {bit} of byte {position} of {path.name}")
        path.write_bytes(content)


def misplaced(tally: Tally, lab: Lab) -> None:
    for name in (TENSORS, STATE, MANIFEST):
        folder = two(lab)
        (folder / NEWEST / name).unlink()
        falls_back(tally, folder, f"no {name}")
    folder = two(lab)
    for name in ("step-abc", "step-00000003", "step-abcdefgh", ".tmp-x-1-step-00000003", "notes"):
        (folder / name).mkdir()
    (folder / "step-00000009").write_text("a file")
    falls_back(tally, folder, "strangers beside it", to=2, named="")
    # What a process of the same number left, as after every restart in a container, and one that is no more.
    import platform

    for owner in (os.getpid(), 2**22 - 1):
        stale = folder / f".tmp-{platform.node()}-{owner}-step-00000004"
        stale.mkdir()
        (stale / TENSORS).write_bytes(b"half")
        try:
            shutil.rmtree(folder / "step-00000004", ignore_errors=True)
            save(folder, 4)
            tally.holds(load(folder) == (4, 4.0) and not stale.exists(), f"left by process {owner}")
        except Exception as error:
            tally.count("wrong", f"left by process {owner}: {type(error).__name__}: {error}")
    content = (folder / "step-00000004" / TENSORS).read_bytes()
    (folder / "step-00000004" / TENSORS).write_bytes(content[:-1])
    save(folder, 4)
    falls_back(tally, folder, "a damaged step is written again", to=4, named="")


def strange_tensors(tally: Tally, lab: Lab) -> None:
    """Whole by its manifest, but with other names, shapes, precision or values than the modules have."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = two(lab)
    path = folder / NEWEST / TENSORS
    whole = load_file(path)
    weights = [key for key in whole if key.startswith("layer/")]
    changes: list[tuple[str, dict[str, Any]]] = [("extra layer/new", {**whole, "layer/new": torch.zeros(1)})]
    changes.append(("extra part", {**whole, "other/weight": torch.zeros(1)}))
    for key in weights:
        rest = {name: value for name, value in whole.items() if name != key}
        changes.append((f"no {key}", rest))
        changes.append((f"{key} renamed", {**rest, key + "s": whole[key]}))
        for kind in (torch.float64, torch.float16, torch.int32):
            changes.append((f"{key} as {kind}", {**rest, key: whole[key].to(kind)}))
        changes.append((f"{key} longer", {**rest, key: torch.cat([whole[key], whole[key]])}))
        for value in (torch.nan, torch.inf, -torch.inf):
            poisoned = whole[key].clone()
            poisoned.view(-1)[-1] = value
            changes.append((f"{key} with {value}", {**rest, key: poisoned}))
    for note, tensors in changes:
        save_file(tensors, path)
        seal(path.parent)
        tally.refused(note, lambda: load(folder), "layer", NEWEST)


def foreign_runs(tally: Tally, lab: Lab) -> None:
    """The folder of another run: every setting that differs is refused by name."""
    from worldmodel.training.folder import resume_folder

    folder = lab.fresh("run")
    shutil.copytree(toy.whole("train", lab), folder)
    identity = json.loads((folder / "identity.json").read_text())
    for key in identity:
        other = {**identity, key: "another"}
        tally.refused(key, lambda other=other: resume_folder(folder, other, "report.json"), key, "out=")
        less = {name: value for name, value in identity.items() if name != key}
        tally.refused(f"no {key}", lambda less=less: resume_folder(folder, less, "report.json"), key)


def bombs(tally: Tally, lab: Lab) -> None:
    """Declared sizes that no memory has: refused at once, in little memory."""
    folder = two(lab)

    def header(entries: dict[str, Any], tail: bytes = b"") -> bytes:
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + tail

    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    bad = {
        "a header of 2^63 bytes": struct.pack("<Q", 2**63 - 1) + b"{}",
        "a header of 1 GB": struct.pack("<Q", 2**30) + b"{}",
        "1 TB declared": header({"layer/weight": {**entry, "shape": [2**38], "data_offsets": [0, 2**40]}}),
        "overlapping": header({"layer/weight": entry, "layer/bias": entry}, bytes(24)),
        "backwards": header({"layer/weight": {**entry, "data_offsets": [24, 0]}}, bytes(24)),
        "a hole": header({"layer/weight": {**entry, "data_offsets": [8, 32]}}, bytes(32)),
        "negative shape": header({"layer/weight": {**entry, "shape": [-2, -3]}}, bytes(24)),
        "an unknown type": header({"layer/weight": {**entry, "dtype": "PICKLE"}}, bytes(24)),
        "no JSON": struct.pack("<Q", 8) + b"not json",
    }
    starve(200 << 20)
    for note, content in bad.items():
        (folder / NEWEST / TENSORS).write_bytes(content)
        seal(folder / NEWEST)
        began = time.monotonic()
        falls_back(tally, folder, note)
        if time.monotonic() - began > 10.0:
            tally.count("hung", note)


def poisoned(tally: Tally, lab: Lab) -> None:
    """Weights that are not finite are never committed."""
    import torch

    folder = two(lab)
    before = toy.tree(folder)
    for value in (torch.nan, torch.inf, -torch.inf):
        for name in ("weight", "bias"):

            def spoil(layer: Any, name: str = name, value: float = value) -> None:
                with torch.no_grad():
                    getattr(layer, name).view(-1)[-1] = value

            tally.refused(f"{name} {value}", lambda spoil=spoil: save(folder, 3, spoil), name, "step 3")
    tally.holds(toy.tree(folder) == before, "the folder changed")


def disordered(tally: Tally, lab: Lab) -> None:
    """A clock that runs backwards: the order is that of the steps."""
    folder = two(lab)
    for age, step in enumerate((2, 1)):
        os.utime(folder / f"step-{step:08d}", (1e9 + 1e6 * age, 1e9 + 1e6 * age))
    falls_back(tally, folder, "the newest looks oldest", to=2, named="")
    save(folder, 3)
    kept = sorted(path.name for path in folder.iterdir())
    tally.holds(kept == [NEWEST, "step-00000003"], f"kept {kept}")


FAULTS = (
    Fault(4, "checkpoint cut short", "named in a warning; the older one is used", truncated),
    Fault(5, "bit flip in a checkpoint", "seen before a tensor is built", flipped, guards=("sha256",)),
    Fault(6, "missing and stray files among checkpoints", "skipped; left-overs removed", misplaced),
    Fault(7, "checkpoint with other names, shapes, precision, values", "one line with the first five", strange_tensors),
    Fault(8, "checkpoint of other settings, data or encoder", "refused, naming the setting", foreign_runs),
    Fault(10, "safetensors bombs, overlaps, 1 TB declared", "refused at once, within 200 MB", bombs),
    Fault(11, "NaN or infinity in weights at a save", "never committed", poisoned),
    Fault(13, "clock skew, times out of order", "ordered by step", disordered),
)
