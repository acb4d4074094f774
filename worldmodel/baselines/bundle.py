"""A baseline on disk: config.json, model.safetensors, encoder/ where it has one, and the sha256 of each; no pickle."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from worldmodel.baselines.dreamer_policy import DreamerBaseline, DreamerConfig
from worldmodel.baselines.pixels import PixelConfig, PixelPredictor
from worldmodel.baselines.policy import GoalPolicy, PolicyConfig
from worldmodel.bundle import CONFIG, ENCODER, MANIFEST, WEIGHTS, fingerprint, read_json, read_tensors, verified
from worldmodel.encoders import load_encoder
from worldmodel.errors import BundleError, EncoderError
from worldmodel.storage import atomic_dir, sha256_file, write_json
from worldmodel.weights import fill, gather

FORMAT = "worldmodel-baseline/1"
DREAMERS = ("dreamerv3", "dreamerv3_planning")
KINDS = ("behaviour_cloning", "inverse_dynamics", "pixel_prediction", *DREAMERS)

Baseline = GoalPolicy | PixelPredictor | DreamerBaseline


def save_baseline(
    model: Baseline, kind: str, about: dict[str, Any], folder: Path, card: str, picture: Path | None = None
) -> str:
    """Write the folder atomically and return its sha256; about: facts that travel with it, see `load_baseline`.

    picture: a file that goes with it, too. Raises BundleError for weights that are not finite.
    """
    tensors = gather(model.trainable())
    config = {"format": FORMAT, "kind": kind, "network": asdict(model.config), "about": about}
    with atomic_dir(folder) as temporary:
        write_json(temporary / CONFIG, config)
        save_file(tensors, temporary / WEIGHTS)
        if not isinstance(model, PixelPredictor) and model.encoder is not None:
            model.encoder.save(temporary / ENCODER)
        if picture is not None:
            shutil.copyfile(picture, temporary / picture.name)
        digests = {
            path.relative_to(temporary).as_posix(): sha256_file(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_json(temporary / MANIFEST, digests)
    return fingerprint(folder)


def load_baseline(folder: str | Path, kind: str) -> tuple[Baseline, dict[str, Any]]:
    """A baseline of this kind, verified, ready to act, and what results say of it.

    {"name": its kind, "sha256", what `described` says, and what it was saved with: "parameters" (without those of the
    encoder), "decisions" of the logs it learned from, optimiser "steps", "configurations_tried", and where it was given
    more than others "privileged"}.
    Raises BundleError for anything else, also for a baseline of another kind.
    """
    sha256, place = fingerprint(folder), Path(folder)
    verified(place, (CONFIG, WEIGHTS))
    config = read_json(place / CONFIG)
    found = config.get("kind") if isinstance(config, dict) and config.get("format") == FORMAT else None
    if found != kind:
        raise BundleError(
            f"expected a baseline of kind {kind!r} in {place}, got {found!r}: "
            f"name the folder that worldmodel baseline kind={kind} wrote (OUT/model)"
        )
    try:
        model: Baseline
        if kind == "pixel_prediction":
            model = PixelPredictor(PixelConfig(**config["network"]))
        elif kind in DREAMERS:
            encoder = load_encoder(place / ENCODER) if (place / ENCODER).is_dir() else None
            model = DreamerBaseline(encoder, DreamerConfig(**config["network"]))
        else:
            model = GoalPolicy(load_encoder(place / ENCODER), PolicyConfig(**config["network"]))
        about = {"name": kind, "sha256": sha256, **described(model), **config["about"]}
    except (KeyError, TypeError, EncoderError) as error:
        raise BundleError(
            f"expected a baseline's config in {place / CONFIG}, got an error ({error}): copy it again"
        ) from error
    tensors = read_tensors(place / WEIGHTS)
    for part, module in model.trainable().items():
        own = {key[len(part) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{part}.")}
        fill(module, own, f"the weights of {part} in {place}", BundleError)
    return model.eval().requires_grad_(False), about


def described(model: Baseline) -> dict[str, Any]:
    """What tells baselines of one kind apart: {"sees", "pixels": side of the pictures it sees [px]}.

    Of DreamerV3 its "reward" and "size", too; with an encoder its "encoder_sha256".
    """
    facts: dict[str, Any] = {"sees": "features"}
    if isinstance(model, PixelPredictor):
        return {"sees": "pixels", "pixels": model.config.side}
    if isinstance(model, DreamerBaseline):
        facts = {"sees": model.config.sees, "reward": model.config.reward, "size": model.config.size}
    if model.encoder is not None:
        facts |= {"pixels": model.encoder.image_size, "encoder_sha256": model.encoder.sha256()}
    if isinstance(model, DreamerBaseline) and model.config.sees == "pixels":
        facts["pixels"] = model.config.side
    return facts
