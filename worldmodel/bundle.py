"""A model on disk: config.json, weights in safetensors, encoder/ and the sha256 of each in MANIFEST.json; no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from worldmodel import convert
from worldmodel.encoders import load_encoder
from worldmodel.errors import BundleError, ConfigError, EncoderError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.storage import atomic_dir, sha256_file, write_json
from worldmodel.tokens import TokenConfig, TokenModel
from worldmodel.vjepa2_ac import VJEPA2AC
from worldmodel.weights import fill, gather

FORMAT = "worldmodel/1"
TOKENS = "worldmodel/tokens/1"
MODELS = Path(__file__).parent / "models"
CONFIG, WEIGHTS, MANIFEST, ENCODER = "config.json", "model.safetensors", "MANIFEST.json", "encoder"
DYNAMICS = "dynamics.safetensors"  # a file of its own, so that no file is large
PROPOSALS = "proposals.safetensors"  # likewise; of models that propose
NEEDED = (CONFIG, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors")
# The other parts are in WEIGHTS.
FILE_OF = {"members": DYNAMICS, "predictor": DYNAMICS, "time_to_go": DYNAMICS, "proposer": PROPOSALS}
WEIGHTS_OF = {FORMAT: (WEIGHTS, DYNAMICS), TOKENS: (WEIGHTS, DYNAMICS), convert.FORMAT: (convert.WEIGHTS,)}


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{MANIFEST}"))


def save(model: WorldModel | TokenModel, folder: Path, card: str) -> str:
    """Write the bundle atomically and return its sha256. Raises BundleError for weights that are not finite."""
    tensors = gather(model.trainable())
    kind = FORMAT if isinstance(model, WorldModel) else TOKENS
    with atomic_dir(folder) as temporary:
        write_json(temporary / CONFIG, {"format": kind, "name": model.name, "model": asdict(model.config)})
        files: dict[str, dict[str, torch.Tensor]] = {WEIGHTS: {}, DYNAMICS: {}}
        for key, value in tensors.items():
            files.setdefault(FILE_OF.get(key.partition(".")[0], WEIGHTS), {})[key] = value
        for file, content in files.items():
            save_file(content, temporary / file)
        model.encoder.save(temporary / ENCODER)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        names = [CONFIG, *files]
        names += sorted(f"{ENCODER}/{path.name}" for path in (temporary / ENCODER).iterdir())
        write_json(temporary / MANIFEST, {name: sha256_file(temporary / name) for name in names})
    return _fingerprint(folder)


def load(name: str | Path) -> WorldModel | TokenModel:
    """A shipped model by name, or a bundle by folder, verified, ready to plan with. Raises BundleError."""
    folder = _find(name)
    manifest = verified(folder)
    config = read_json(folder / CONFIG)
    kind = config.get("format") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in WEIGHTS_OF:
        raise BundleError(f"expected format {FORMAT!r} in {folder / CONFIG}, got {kind!r}: use its own version")
    _require_listed(WEIGHTS_OF[kind], manifest, folder)
    try:
        encoder = load_encoder(folder / ENCODER)
        if kind == convert.FORMAT:
            sizes = {key: config[key] for key in ("image_size", "patch_size", "num_heads")}
            predictor = convert.load_vjepa2_ac_predictor(read_tensors(folder / convert.WEIGHTS), **sizes)
            public = VJEPA2AC(encoder, predictor, name=str(config["name"]), sha256=_fingerprint(folder))
            return public.eval().requires_grad_(False)
        about = (str(config["name"]), _fingerprint(folder))
        model: WorldModel | TokenModel
        if kind == TOKENS:
            model = TokenModel(encoder, TokenConfig(**config["model"]), *about)
        else:
            model = WorldModel(encoder, ModelConfig(**config["model"]), *about)
    except (KeyError, TypeError, ConfigError, EncoderError, SafetensorError) as error:
        raise BundleError(
            f"expected a model config in {folder / CONFIG}, got an error ({error}): copy it again"
        ) from error
    if PROPOSALS in (FILE_OF.get(part) for part in model.trainable()):
        _require_listed((PROPOSALS,), manifest, folder)
    _fill(model, folder)
    return model.eval().requires_grad_(False)


def verified(folder: Path, needed: Sequence[str] = NEEDED) -> dict[str, Any]:
    """The manifest of a folder, once it lists what is needed and every file has its sha256. Raises BundleError."""
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict):
        raise BundleError(f"expected a list of files in {folder / MANIFEST}, got something else: copy it again")
    _require_listed(needed, manifest, folder)
    for file, digest in manifest.items():
        path = folder / file
        if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file:
            raise BundleError(f"expected files inside {folder}, got {file!r} in {MANIFEST}: do not trust it")
        if not path.is_file():
            raise BundleError(f"expected the file {path}, got none: copy the model again")
        if sha256_file(path) != digest:
            raise BundleError(
                f"expected sha256 {str(digest)[:12]} for {path}, got {sha256_file(path)[:12]}: copy it again"
            )
    return manifest


def _require_listed(names: Sequence[str], manifest: Mapping[str, Any], folder: Path) -> None:
    missing = [name for name in names if name not in manifest]
    if missing:
        raise BundleError(f"expected {folder / MANIFEST} to list {missing}, got something else: copy it again")


def fingerprint(name: str | Path) -> str:
    """The sha256 that a model, shipped or in a folder, has in results. Raises BundleError."""
    return _fingerprint(_find(name))


def _find(name: str | Path) -> Path:
    folder = Path(name)
    if (MODELS / str(name) / MANIFEST).is_file():
        return MODELS / str(name)
    if not folder.is_dir():
        known = ", ".join(shipped_models()) or "none"
        raise BundleError(f"expected a model folder or one of the shipped models ({known}), got {name}: no such folder")
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"expected a model folder with {MANIFEST}, got {folder} without one: name the folder train wrote"
        )
    return folder


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises BundleError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"expected JSON in {path}, got something else ({error}): copy the model again") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file. Raises BundleError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"expected weights in {path}, got an unreadable file ({error}): copy the model again"
        ) from error


def _fill(model: WorldModel | TokenModel, folder: Path) -> None:
    parts = model.trainable()
    tensors = read_tensors(folder / WEIGHTS) | read_tensors(folder / DYNAMICS)
    if "proposer" in parts:
        tensors |= read_tensors(folder / PROPOSALS)
    for part, module in parts.items():
        own = {key[len(part) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{part}.")}
        fill(module, own, f"the weights of {part} in {folder}", BundleError)


def _fingerprint(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
