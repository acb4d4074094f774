"""A model on disk: config.json, weights in safetensors, encoder/ and the sha256 of each in MANIFEST.json; no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from worldmodel.encoders import load_encoder
from worldmodel.errors import BundleError, EncoderError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.storage import atomic_dir, sha256_file, write_json

FORMAT = "worldmodel/1"
MODELS = Path(__file__).parent / "models"
CONFIG, WEIGHTS, MANIFEST, ENCODER = "config.json", "model.safetensors", "MANIFEST.json", "encoder"
DYNAMICS = "dynamics.safetensors"  # a file of its own, so that no file is large


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{MANIFEST}"))


def save(model: WorldModel, folder: Path, card: str) -> str:
    """Write the bundle atomically and return its sha256. Raises BundleError for weights that are not finite."""
    tensors = {
        f"{part}.{key}": value.detach().cpu().contiguous().clone()
        for part, module in model.trainable().items()
        for key, value in module.state_dict().items()
    }
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BundleError(f"expected finite weights, got NaN or infinity in {key}: the training diverged")
    with atomic_dir(folder) as temporary:
        write_json(temporary / CONFIG, {"format": FORMAT, "name": model.name, "model": asdict(model.config)})
        moves = {key: value for key, value in tensors.items() if key.startswith("members.")}
        save_file(moves, temporary / DYNAMICS)
        save_file({key: value for key, value in tensors.items() if key not in moves}, temporary / WEIGHTS)
        model.encoder.model.save_pretrained(temporary / ENCODER)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        names = [CONFIG, WEIGHTS, DYNAMICS, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors"]
        write_json(temporary / MANIFEST, {name: sha256_file(temporary / name) for name in names})
    return _fingerprint(folder)


def load(name: str | Path) -> WorldModel:
    """A shipped model by name, or a bundle by folder, verified, ready to plan with. Raises BundleError."""
    folder = _find(name)
    manifest = _json(folder / MANIFEST)
    required = {CONFIG, WEIGHTS, DYNAMICS, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors"}
    if not isinstance(manifest, dict) or set(manifest) != required:
        raise BundleError(f"expected {folder / MANIFEST} to list {sorted(required)}, got something else: copy it again")
    for file, digest in manifest.items():
        path = folder / file
        if not path.is_file():
            raise BundleError(f"expected the file {path}, got none: copy the model again")
        if sha256_file(path) != digest:
            raise BundleError(
                f"expected sha256 {str(digest)[:12]} for {path}, got {sha256_file(path)[:12]}: copy it again"
            )
    config = _json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise BundleError(
            f"expected format {FORMAT!r} in {folder / CONFIG}, got {config.get('format')!r}: use its own version"
        )
    try:
        settings = ModelConfig(**config["model"])
        encoder = load_encoder(folder / ENCODER)
    except (KeyError, TypeError, EncoderError) as error:
        raise BundleError(
            f"expected a model config in {folder / CONFIG}, got an error ({error}): copy it again"
        ) from error
    model = WorldModel(encoder, settings, name=str(config["name"]), sha256=_fingerprint(folder))
    _fill(model, folder)
    return model.eval().requires_grad_(False)


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


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"expected JSON in {path}, got something else ({error}): copy the model again") from error


def _fill(model: WorldModel, folder: Path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for path in (folder / WEIGHTS, folder / DYNAMICS):
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise BundleError(
                f"expected weights in {path}, got an unreadable file ({error}): copy the model again"
            ) from error
    for part, module in model.trainable().items():
        own = {key[len(part) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{part}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            cause = " ".join(str(error).split())[:200]
            raise BundleError(
                f"expected the weights of {part} in {folder}, got others ({cause}): copy it again"
            ) from error


def _fingerprint(folder: Path) -> str:
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
