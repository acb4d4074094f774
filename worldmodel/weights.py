"""Tensors of modules to a file, and from a file into a module of the same names, shapes and precision, all finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldmodel.errors import BundleError, WorldModelError


def gather(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All tensors of named parts, copied to the CPU, by dotted names. Raises BundleError for one that is not finite."""
    tensors = {
        f"{part}.{key}": value.detach().cpu().contiguous().clone()
        for part, module in parts.items()
        for key, value in module.state_dict().items()
    }
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BundleError(f"expected finite weights, got NaN or infinity in {key}: the training diverged")
    return tensors


def fill(module: nn.Module, tensors: Mapping[str, Tensor], what: str, error: type[WorldModelError]) -> None:
    """Copy `tensors` into the module. Raises `error` naming the first differences; nothing is copied then."""
    wanted = module.state_dict()
    differences = [f"{key} is missing" for key in wanted if key not in tensors]
    differences += [f"{key} is left over" for key in tensors if key not in wanted]
    for key in wanted.keys() & tensors.keys():
        if _kind(tensors[key]) != _kind(wanted[key]):
            differences.append(f"{key} is {_kind(tensors[key])}, not {_kind(wanted[key])}")
        elif tensors[key].is_floating_point() and not bool(torch.isfinite(tensors[key]).all()):
            differences.append(f"{key} holds NaN or infinity")
    if differences:
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise error(f"expected {what}, got others ({'; '.join(differences[:5])}{more}): restore or remove them")
    module.load_state_dict(dict(tensors))


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
