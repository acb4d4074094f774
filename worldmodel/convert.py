"""The official V-JEPA 2-AC weights in this project's form. The only place that reads a pickled checkpoint.

The public checkpoint is described in Assran et al. 2025, arXiv 2506.09985, and its repository (facebookresearch/vjepa2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worldmodel.errors import BundleError, ConfigError
from worldmodel.transformer import TransformerPredictor

# The public model was trained on clips of 16 frames (arXiv 2506.09985, section 3.1).
CONTEXT = 16
# Present in the public weights, but never trained and never used.
UNUSED = "extrinsics_encoder"


def load_vjepa2_ac_predictor(
    state_dict: Mapping[str, Any], *, image_size: int, patch_size: int, num_heads: int
) -> TransformerPredictor:
    """The public V-JEPA 2-AC predictor from its state dict, in float32 and evaluation mode.

    image_size, patch_size [px] and num_heads cannot be read off the tensors; every other size is. Prefixes `module.`
    and `backbone.` are dropped. Loading is strict. The module maps (z [B,T,N,D], actions [B,T,7], proprio [B,T,7]) to
    [B,T,N,D], where z are layer-normalised features and the result is not layer-normalised yet; proprio and actions are
    those of worldmodel/actions.py. Raises BundleError naming the first keys that are missing, left over or misshapen.
    """
    if patch_size < 1 or image_size < patch_size or image_size % patch_size:
        raise ConfigError(
            f"expected an image_size that is a multiple of patch_size={patch_size}, got {image_size}: correct it"
        )
    state = _strip(state_dict)
    with torch.device("meta"):
        predictor = _empty_predictor(state, (image_size // patch_size) ** 2, num_heads)
    _check_shapes(state, predictor)
    predictor.to_empty(device="cpu")
    predictor.load_state_dict({name: value for name, value in state.items() if not name.startswith(UNUSED)})
    return predictor.eval()


def _strip(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict without the prefixes that training wrappers left."""
    state: dict[str, Tensor] = {}
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise BundleError(
                f"expected tensors under names, got {type(value).__name__} at {name!r}: pass a state dict"
            )
        short = name
        while short.startswith(("module.", "backbone.")):
            short = short.partition(".")[2]
        if short in state:
            raise BundleError(
                f"expected every weight once, got {short} twice with different prefixes: pass one of them"
            )
        state[short] = value
    return state


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
        depth=len(blocks),
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
    found = {name: list(value.shape) for name, value in state.items()}
    differences = [f"{name} is missing" for name in wanted if name not in found]
    differences += [f"{name} is left over" for name in found if name not in wanted]
    differences += [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise BundleError(
            f"expected the weights of a V-JEPA 2-AC predictor, got other names or shapes ({'; '.join(differences[:3])}{more}): "
            "pass the predictor of the public checkpoint, complete"
        )
