"""Checkpoints that are whole or absent, verified before they are used; safetensors and JSON only."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldmodel.errors import TrainingError
from worldmodel.storage import atomic_dir, sha256_file, write_json
from worldmodel.weights import fill

KEPT = 2


def _tensors(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for key, value in slots.items():
            found[f"optimizer/{index}/{key}"] = torch.as_tensor(value)
    return {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}


def save_checkpoint(
    folder: Path, step: int, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write folder/step-N atomically; keep the newest two that verify. Raises TrainingError for non-finite weights."""
    tensors = _tensors(modules, optimizer)
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"expected finite weights at step {step}, got NaN or infinity in {key}: lower learning_rate"
            )
    path = folder / f"step-{step:08d}"
    if path.exists():
        if _verified(path):
            return
        shutil.rmtree(path)
    with atomic_dir(path) as temporary:
        save_file(tensors, temporary / "tensors.safetensors")
        write_json(temporary / "state.json", {"step": step, **state})
        digests = {name: sha256_file(temporary / name) for name in ("tensors.safetensors", "state.json")}
        write_json(temporary / "MANIFEST.json", digests)
    valid = [candidate for candidate in _candidates(folder) if _verified(candidate)]
    for old in valid[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _candidates(folder: Path) -> list[Path]:
    """Newest first, by step number, never by time."""
    return sorted((path for path in folder.glob("step-????????") if path.is_dir()), reverse=True)


def _verified(path: Path) -> bool:
    try:
        digests = json.loads((path / "MANIFEST.json").read_text(encoding="utf-8"))
        return set(digests) == {"tensors.safetensors", "state.json"} and all(
            sha256_file(path / name) == digest for name, digest in digests.items()
        )
    except (OSError, ValueError, TypeError):
        return False


def load_checkpoint(
    folder: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore the newest verified checkpoint in place and return its state; None where there is none at all.

    Damaged ones are named in a warning and skipped. Raises TrainingError where all are damaged, and for a whole one
    whose tensors are not those of the modules.
    """
    candidates = _candidates(folder)
    for path in candidates:
        try:
            tensors = load_file(path / "tensors.safetensors") if _verified(path) else None
        except SafetensorError:  # whole, but never written by this project
            tensors = None
        if tensors is None:
            warnings.warn(f"skipping the damaged checkpoint {path}", stacklevel=2)
            continue
        _restore(path, tensors, modules, optimizer)
        state: dict[str, Any] = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return state
    if candidates:
        raise TrainingError(
            f"expected a whole checkpoint in {folder}, got {len(candidates)} damaged: restore or remove them"
        )
    return None


def _restore(
    path: Path, tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in (*modules, "optimizer")}
    for key, value in tensors.items():
        name, _, rest = key.partition("/")
        if name not in parts:
            raise TrainingError(f"expected tensors of {', '.join(parts)} in {path}, got {key}: restore or remove it")
        parts[name][rest] = value
    for name, module in modules.items():
        fill(module, parts[name], f"the weights of {name} in {path}", TrainingError)
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = value
    restored = optimizer.state_dict()
    restored["state"] = slots
    optimizer.load_state_dict(restored)
