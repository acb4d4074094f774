"""Faults 4, 5, 9, 10, 11, 33 and 53 of models and encoders: cut, flipped, poisoned, forged, with code inside."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.checkpoints import NEWEST, TENSORS, seal, two
from tests.faults.checkpoints import load as load_checkpoint
from tests.faults.harness import Fault, Lab, Tally, starve

MANIFEST = "MANIFEST.json"


class Payload:
    """What an attacker puts into a pickle: a call that is made when it is opened."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.canary,)


def copy(lab: Lab) -> Path:
    """A bundle to be spoiled."""
    return Path(shutil.copytree(toy.model(lab), lab.fresh("model")))


def load(folder: Path) -> Any:
    from worldmodel.bundle import load

    return load(folder)


def forge(folder: Path) -> None:
    """A manifest that fits whatever lies there."""
    from worldmodel.storage import sha256_file

    names = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({name: sha256_file(folder / name) for name in names}))


def files(folder: Path) -> list[str]:
    return [MANIFEST, *json.loads((folder / MANIFEST).read_text())]


def truncated(tally: Tally, lab: Lab) -> None:
    folder = copy(lab)
    for name in files(folder):
        path = folder / name
        content = path.read_bytes()
        for length in (0, 1, 7, len(content) // 2, len(content) - 2, len(content) - 1):
            path.write_bytes(content[:length])
            if name != MANIFEST or content[:length].strip() != content.strip():
                tally.refused(f"{name} cut to {length}", lambda: load(folder), str(folder))
        path.unlink()
        tally.refused(f"no {name}", lambda: load(folder), str(folder))
        path.write_bytes(content)


def flipped(tally: Tally, lab: Lab) -> None:
    folder, rng = copy(lab), random.Random(5)
    names = files(folder)
    for _ in range(lab.times(24, 1000)):
        path = folder / rng.choice(names)
        content = path.read_bytes()
        position, bit = rng.randrange(len(content)), rng.randrange(8)
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        try:
            same = path.name == MANIFEST and json.loads(changed) == json.loads(content)
        except ValueError:
            same = False
        note = f"bit {bit} of byte {position} of {path.name}"
        tally.count("harmless") if same else tally.refused(note, lambda: load(folder), str(folder))
        path.write_bytes(content)


def strange(tally: Tally, lab: Lab) -> None:
    """Whole by its manifest, but with weights that are not the model's."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = copy(lab)
    for name in ("model.safetensors", "dynamics.safetensors", "proposals.safetensors"):
        path = folder / name
        whole, content = load_file(path), path.read_bytes()
        for key in list(whole)[:: lab.times(7, 1)]:
            rest = {other: value for other, value in whole.items() if other != key}
            for note, tensors in {
                "missing": rest,
                "in float64": {**rest, key: whole[key].double()},
                "longer": {**rest, key: whole[key].repeat(2, *[1] * max(0, whole[key].dim() - 1))},
                "of NaN": {**rest, key: torch.full_like(whole[key].float(), torch.nan)},
            }.items():
                save_file({other: value.contiguous() for other, value in tensors.items()}, path)
                forge(folder)
                tally.refused(f"{key} {note}", lambda: load(folder), str(folder))
        path.write_bytes(content)


def encoders(tally: Tally, lab: Lab) -> None:
    """An encoder's folder that is cut, empty, foreign or lacks weights: never a random one in its place."""
    import torch
    from safetensors.torch import load_file, save_file

    from worldmodel.encoders import load_encoder

    folder = Path(shutil.copytree(toy.encoder(lab), lab.fresh("encoder")))
    path = folder / "model.safetensors"
    whole, content = load_file(path), path.read_bytes()
    for length in (0, 1, 7, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        tally.refused(f"weights cut to {length}", lambda: load_encoder(folder), str(folder))
    keys = [key for key in whole if key.startswith("encoder.")]
    for key in keys[:: lab.times(24, 1)]:
        rest = {name: value for name, value in whole.items() if name != key}
        for note, tensors in {"missing": rest, "longer": {**rest, key: torch.cat([whole[key]] * 2)}}.items():
            save_file(tensors, path, {"format": "pt"})
            tally.refused(f"{key} {note}", lambda: load_encoder(folder), str(folder))
    path.write_bytes(content)
    for text in ("", "{", "[]", '{"model_type": 1}', '{"model_type": "vjepa2", "hidden_size": "x"}'):
        (folder / "config.json").write_text(text)
        tally.refused(f"config {text!r}", lambda: load_encoder(folder))


def bombs(tally: Tally, lab: Lab) -> None:
    folder = copy(lab)
    starve(400 << 20)
    for content in ((2**62).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"{}", b""):
        (folder / "model.safetensors").write_bytes(content)
        forge(folder)
        tally.refused(f"{content[:10]!r}", lambda: load(folder), str(folder))


def stays(tally: Tally, path: Path, call: Callable[[], Any], sealed: Callable[[], Any] = lambda: None) -> None:
    """Pickles in the place of `path`, under a manifest that fits: refused, and never opened."""
    import torch

    canary = path.parent / "canary"
    for how, write in {"pickle": pickle.dump, "torch": torch.save}.items():
        with path.open("wb") as stream:
            write({"weights": Payload(canary)}, stream)
        sealed()
        tally.refused(f"{how} as {path.name}", call)
        tally.holds(not canary.exists(), f"code ran from {path}")


def pickles(tally: Tally, lab: Lab) -> None:
    """In a bundle and in a checkpoint."""
    bundle = copy(lab)
    for name in files(bundle)[1:]:
        stays(tally, bundle / name, lambda: load(bundle), lambda: forge(bundle))
        shutil.copy(toy.model(lab) / name, bundle / name)
    steps = two(lab)
    shutil.rmtree(steps / "step-00000001")
    for name in (TENSORS, "state.json"):
        stays(tally, steps / NEWEST / name, lambda: load_checkpoint(steps), lambda: seal(steps / NEWEST))
    (steps / NEWEST / TENSORS).unlink()
    stays(tally, steps / NEWEST / "model.pt", lambda: load_checkpoint(steps))


def pickled_encoders(tally: Tally, lab: Lab) -> None:
    """In an encoder's folder."""
    from worldmodel.encoders import load_encoder

    folder = Path(shutil.copytree(toy.encoder(lab), lab.fresh("encoder")))
    stays(tally, folder / "model.safetensors", lambda: load_encoder(folder))
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "tf_model.h5"):
        stays(tally, folder / name, lambda: load_encoder(folder))


def names_of_code(tally: Tally, lab: Lab) -> None:
    """Configurations that name code to run: nothing is ever looked up by such a name."""
    from worldmodel.encoders import load_encoder

    canary = lab.fresh("canary")
    shell = f"touch {canary}"
    targets = ["os.system", "builtins.eval", "builtins.exec", "subprocess.run", "worldmodel.storage.os.mkdir"]
    targets += ["worldmodel.cli.os.system", "pathlib.Path.mkdir", "hydra.utils.instantiate", "runpy.run_path"]
    for target in targets:
        for place in ("model", "format", "nested", "planning"):
            folder = copy(lab)
            config = json.loads((folder / "config.json").read_text())
            call = {"_target_": target, "_args_": [shell], "_partial_": False}
            config["model"] = {**config["model"], **call} if place == "model" else config["model"]
            config["format"] = call if place == "format" else config["format"]
            if place == "nested":
                config["model"]["place_dim"] = [call]
            if place == "planning":
                config["model"]["planning"] = {**config["model"]["planning"], **call}
            (folder / "config.json").write_text(json.dumps(config))
            forge(folder)
            if place == "planning":  # settings of a planner, which has none of that name
                load(folder)
                tally.count("silent" if canary.exists() else "harmless", f"{target} in {place}")
            else:
                tally.refused(f"{target} in {place}", lambda folder=folder: load(folder))
    folder = Path(shutil.copytree(toy.encoder(lab), lab.fresh("encoder")))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    try:
        load_encoder(folder)
        tally.count("harmless")  # the architecture of its type is used, its code is not
    except Exception:
        tally.count("detected")
    tally.holds(not canary.exists(), "code ran")


def places_outside(tally: Tally, lab: Lab) -> None:
    """Manifests, hub ids and names that point out of their folder."""
    from worldmodel.encoders import load_encoder

    for name in ("../evil.safetensors", "/etc/passwd", "encoder/../../x", "model.safetensors\0"):
        folder = copy(lab)
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**manifest, name: "0" * 64}))
        tally.refused(f"manifest with {name!r}", lambda folder=folder: load(folder), str(folder))
    names = [
        "../x",
        "a/../b",
        "/etc",
        "~/x",
        "./x",
        "owner/..",
        "../..",
        "a b/c",
        "owner/na\0me",
        "https://x/y",
        "a/b/c",
    ]
    for name in names:
        tally.refused(f"encoder={name!r}", lambda name=name: load_encoder(name))
        tally.refused(f"model={name!r}", lambda name=name: load(Path(name)))


FAULTS = (
    Fault(4, "bundle cut short, file missing", "refused, naming the file", truncated),
    Fault(5, "bit flip in a bundle", "seen before a tensor is built", flipped, guards=("sha256",)),
    Fault(7, "bundle with other names, shapes, precision, NaN", "one line with the first five", strange),
    Fault(9, "pickle as safetensors, JSON or .bin; .pt beside it", "refused; canary absent", pickles),
    Fault(9, "pickle in an encoder's folder", "refused in one line; canary absent", pickled_encoders),
    Fault(10, "safetensors bombs in a bundle", "refused at once, within 400 MB", bombs),
    Fault(26, "manifest and hub ids that point outside", "refused", places_outside),
    Fault(33, "encoder's weights cut, missing, misshapen; bad config", "refused, never random weights", encoders),
    Fault(53, "_target_ and auto_map in a bundle's or encoder's config", "never looked up", names_of_code),
)  # fmt: skip
