"""The official V-JEPA 2-AC weights in this project's form. The only place that reads a pickled checkpoint.

The weights belong to Assran et al. 2025 (arXiv 2506.09985); their layout is that of github.com/facebookresearch/vjepa2.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from worldmodel.convert_encoder import encoder_state, require_finite, require_shapes, strip_prefixes, write_encoder
from worldmodel.encoders import load_encoder
from worldmodel.errors import BundleError, ConfigError
from worldmodel.storage import atomic_dir, sha256_file, write_json
from worldmodel.transformer import TransformerPredictor

# The public model was trained on clips of 16 frames (arXiv 2506.09985, section 3.1).
CONTEXT = 16
# Present in the public weights, but never trained and never used.
UNUSED = "extrinsics_encoder"
FORMAT = "worldmodel/vjepa2_ac/1"
WEIGHTS, CONFIG = "predictor.safetensors", "config.json"
LABELS = ("public", "fixed")
OWN = "checkpoint"


def load_vjepa2_ac_predictor(
    state_dict: Mapping[str, Any], *, image_size: int, patch_size: int, num_heads: int
) -> TransformerPredictor:
    """The public V-JEPA 2-AC predictor from its state dict, in float32 and evaluation mode.

    image_size, patch_size [px] and num_heads cannot be read off the tensors; every other size is. Prefixes `module.`
    and `backbone.` are dropped. Loading is strict. The module maps (z [B,T,N,D], actions [B,T,7], proprio [B,T,7]) to
    [B,T,N,D], where z are layer-normalised features and the result is not layer-normalised yet; proprio and actions are
    those of worldmodel/actions.py. Raises BundleError naming the first keys that are missing, left over or misshapen.
    """
    state, predictor = _matched(state_dict, image_size, patch_size, num_heads)
    predictor.to_empty(device="cpu")
    predictor.load_state_dict({name: value for name, value in state.items() if not name.startswith(UNUSED)})
    return predictor.eval()


def convert_vjepa2_ac(
    *,
    checkpoint: str | Path,
    sha256: str,
    out: str | Path,
    encoder: str | Path = OWN,
    label: str = "public",
    image_size: int = 256,
    patch_size: int = 16,
    num_heads: int = 16,
    encoder_heads: int = 22,
) -> dict[str, Any]:
    """Turn the public training checkpoint `checkpoint` into a model in the new folder `out`; see bundle.load.

    The folder gets predictor.safetensors (names and precision as published, without prefixes), encoder/ in the layout
    of `transformers`, config.json (returned, too) and MANIFEST.json with the sha256 of each. The file is hashed before
    it is opened; it is opened for tensors only and memory-mapped, so that neither code inside it nor its size matters.
    encoder: `checkpoint`, the file's own `target_encoder`, or what worldmodel.load_encoder takes; the predictor was
    trained on the former, and config.json says whether the two are equal. label: `public` for the weights Meta
    released, whose rollout loss was mis-computed, `fixed` for a retrained predictor (arXiv 2512.24497, appendix B).
    num_heads, encoder_heads: of predictor and `target_encoder`, which their tensors do not tell. Raises ConfigError
    for another label, BundleError for a file that is missing, has another sha256 or other contents, EncoderError,
    OutputError if `out` exists.
    """
    if label not in LABELS:
        raise ConfigError(f"expected label public or fixed, got {label!r}: say which weights these are")
    contents = _open_verified(Path(checkpoint), sha256)
    if not isinstance(contents, dict) or not isinstance(contents.get("predictor"), Mapping):
        found = sorted(map(str, contents))[:12] if isinstance(contents, dict) else type(contents).__name__
        raise BundleError(
            f"expected a checkpoint with a predictor, got {found} in {checkpoint}: use the V-JEPA 2-AC file"
        )
    state, predictor = _matched(contents["predictor"], image_size, patch_size, num_heads)
    require_finite(state, str(checkpoint))
    with atomic_dir(Path(out)) as folder:
        save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
        own = contents.get("target_encoder")
        public = encoder_state(own) if isinstance(own, Mapping) else None
        matches = _write_encoder(folder / "encoder", encoder, public, predictor, image_size, encoder_heads)
        config = {
            "format": FORMAT,
            "name": f"vjepa2_ac-{label}",
            "label": label,
            "source_sha256": sha256.lower(),
            "image_size": image_size,
            "patch_size": patch_size,
            "num_heads": num_heads,
            "latent_dim": predictor.latent_dim,
            "latent_tokens": predictor.latent_tokens,
            "encoder": "target_encoder of the checkpoint" if str(encoder) == OWN else Path(encoder).name,
            "encoder_matches": matches,
        }
        write_json(folder / CONFIG, config)
        names = [WEIGHTS, CONFIG, *sorted(f"encoder/{path.name}" for path in (folder / "encoder").iterdir())]
        write_json(folder / "MANIFEST.json", {name: sha256_file(folder / name) for name in names})
    return config


def _write_encoder(
    folder: Path,
    source: str | Path,
    public: Mapping[str, Tensor] | None,
    predictor: TransformerPredictor,
    image_size: int,
    heads: int,
) -> bool | None:
    """Write the chosen encoder; whether it is the checkpoint's own (`public`), None where that cannot be known."""
    if str(source) == OWN:
        if public is None:
            raise BundleError("expected a target_encoder in the checkpoint, got none: give encoder=FOLDER or a hub id")
        size = write_encoder(folder, public, image_size, heads)
        matches: bool | None = True
    else:
        chosen = load_encoder(source)
        size = (chosen.image_size, chosen.tokens, chosen.width)
        weights = chosen.model.state_dict()
        matches = None
        if public is not None:
            matches = all(key in weights and torch.equal(weights[key], value) for key, value in public.items())
        chosen.save(folder)
    needs = (image_size, predictor.latent_tokens, predictor.latent_dim)
    if size != needs:
        raise BundleError(
            f"expected an encoder of pictures of {needs[0]} px, {needs[1]} tokens and width {needs[2]}, got {size[0]} "
            f"px, {size[1]} and {size[2]}: choose another encoder=, image_size= or patch_size="
        )
    return matches


def _open_verified(path: Path, sha256: str) -> Any:
    """The contents of a checkpoint whose bytes are the expected ones, tensors mapped from the file."""
    if not path.is_file():
        raise BundleError(f"expected a checkpoint file, got {path}: no such file")
    found = sha256_file(path)
    if found != sha256.lower():
        raise BundleError(f"expected sha256 {sha256.lower()[:16]} for {path}, got {found[:16]}: download it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a foreign file can fail in any way, and its refusal comes as an error of pickle
        cause = " ".join(str(error).split())[:160]
        raise BundleError(f"expected a checkpoint of tensors in {path}, got {cause}: do not trust this file") from error


def _matched(
    state_dict: Mapping[str, Any], image_size: int, patch_size: int, num_heads: int
) -> tuple[dict[str, Tensor], TransformerPredictor]:
    """The weights without prefixes, and a predictor on the meta device that they fit."""
    if patch_size < 1 or image_size < patch_size or image_size % patch_size:
        raise ConfigError(f"expected an image_size that patch_size={patch_size} divides, got {image_size}: correct it")
    state = strip_prefixes(state_dict)
    with torch.device("meta"):
        predictor = _empty_predictor(state, (image_size // patch_size) ** 2, num_heads)
    _check_shapes(state, predictor)
    return state, predictor


def _empty_predictor(state: Mapping[str, Tensor], latent_tokens: int, num_heads: int) -> TransformerPredictor:
    """A predictor of the sizes that the tensors have."""
    width, latent_dim = _matrix(state, "predictor_embed.weight")
    hidden, _ = _matrix(state, "predictor_blocks.0.mlp.fc1.weight")
    blocks = {name.split(".")[1] for name in state if name.startswith("predictor_blocks.") and name.count(".") > 1}
    return TransformerPredictor(
        latent_tokens=latent_tokens,
        latent_dim=latent_dim,
        action_dim=_matrix(state, "action_encoder.weight")[1],
        proprio_dim=_matrix(state, "state_encoder.weight")[1],
        width=width,
        depth=next(index for index in count() if str(index) not in blocks),
        heads=num_heads,
        mlp_ratio=hidden / width,
        context=CONTEXT,
        layout="vjepa2_ac",
    )


def _matrix(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in state or state[name].dim() != 2 or 0 in state[name].shape:
        found = f"{list(state[name].shape)}" if name in state else f"{len(state)} other names"
        raise BundleError(
            f"expected a matrix {name} in the V-JEPA 2-AC predictor, got {found}: pass the predictor's state dict"
        )
    rows, columns = state[name].shape
    return rows, columns


def _check_shapes(state: Mapping[str, Tensor], predictor: TransformerPredictor) -> None:
    """Raise BundleError naming the first differences between the weights and what the predictor needs."""
    width = predictor.state_encoder.out_features
    wanted = {name: list(value.shape) for name, value in predictor.state_dict().items()}
    wanted[f"{UNUSED}.weight"], wanted[f"{UNUSED}.bias"] = [width, predictor.proprio_dim - 1], [width]
    require_shapes(state, wanted, "V-JEPA 2-AC predictor")
