"""The public V-JEPA 2 encoder in the layout of `transformers`, and what all public weights have to pass.

The public layout is that of github.com/facebookresearch/vjepa2 (Assran et al. 2025, arXiv 2506.09985).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from worldmodel.errors import BundleError, ConfigError

PATCHES = "encoder.embeddings.patch_embeddings.proj.weight"
FIRST_MLP = "encoder.layer.0.mlp.fc1.weight"
# A table of positions that the rotary ones replaced; some checkpoints still carry it.
LEFT_OVER = "pos_embed"


def strip_prefixes(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict without the prefixes that training wrappers left. Raises BundleError for what is no weight."""
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


def encoder_state(public: Mapping[str, Any]) -> dict[str, Tensor]:
    """The public encoder's weights under the names of `transformers`; views, nothing is copied. Raises BundleError."""
    state: dict[str, Tensor] = {}
    for name, value in strip_prefixes(public).items():
        if name == LEFT_OVER:
            continue
        renamed = name.replace("patch_embed.", "embeddings.patch_embeddings.").replace(".attn.", ".attention.")
        for old, new in (("blocks.", "layer."), ("norm.", "layernorm.")):
            renamed = new + renamed.removeprefix(old) if renamed.startswith(old) else renamed
        if ".qkv." in renamed:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=False):
                state[f"encoder.{renamed.replace('qkv', part)}"] = piece
        else:
            state[f"encoder.{renamed}"] = value
    return state


def write_encoder(folder: Path, state: Mapping[str, Tensor], image_size: int, heads: int) -> tuple[int, int, int]:
    """Write config.json and model.safetensors of a V-JEPA 2 for these weights; its picture side, tokens and width.

    Raises BundleError for weights that are missing, left over, misshapen or not finite, ConfigError for `heads`.
    """
    from transformers import VJEPA2Config, VJEPA2Model

    for name, dimensions in ((PATCHES, 5), (FIRST_MLP, 2)):
        if name not in state or state[name].dim() != dimensions:
            raise BundleError(f"expected {name} in the target_encoder, got none: use the V-JEPA 2-AC file")
    width, _, tubelet, patch, _ = state[PATCHES].shape
    if heads < 1 or width % heads:
        raise ConfigError(f"expected encoder_heads that divide the width {width}, got {heads}: correct it")
    config = VJEPA2Config(
        crop_size=image_size, patch_size=patch, tubelet_size=tubelet, hidden_size=width, num_attention_heads=heads,
        num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")}),
        mlp_ratio=state[FIRST_MLP].shape[0] / width,
        # The class comes with the predictor of pretraining, which is not used here: as small as it can be.
        pred_hidden_size=1, pred_num_attention_heads=1, pred_num_hidden_layers=0, pred_num_mask_tokens=1,
    )  # fmt: skip
    with torch.device("meta"):
        wanted = {name: list(value.shape) for name, value in VJEPA2Model(config).state_dict().items()}
    whole = {name: torch.zeros(shape) for name, shape in wanted.items() if name.startswith("predictor.")} | dict(state)
    require_shapes(whole, wanted, "V-JEPA 2 encoder")
    require_finite(whole, "the target_encoder")
    folder.mkdir()
    config.save_pretrained(folder)
    save_file(
        {name: value.contiguous() for name, value in whole.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return image_size, (image_size // patch) ** 2, width


def require_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, list[int]], whose: str) -> None:
    """Raise BundleError naming the first differences between the weights and the shapes that are wanted."""
    found = {name: list(value.shape) for name, value in state.items()}
    differences = [f"{name} is missing" for name in wanted if name not in found]
    differences += [f"{name} is left over" for name in found if name not in wanted]
    differences += [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    differences += [
        f"{name} is {value.dtype}, not floats" for name, value in state.items() if not value.is_floating_point()
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise BundleError(
            f"expected the weights of a {whose}, got differences ({'; '.join(differences[:3])}{more}): "
            "use the public checkpoint, complete"
        )


def require_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise BundleError naming the first weight that is not finite."""
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise BundleError(f"expected finite weights, got NaN or infinity in {name} of {where}: download it again")
