"""What a bug report needs: versions, devices, OpenGL, shipped models."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from worldmodel.storage import sha256_file

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "mujoco",
    "dm-control",
    "gymnasium",
    "transformers",
    "safetensors",
    "hydra-core",
    "omegaconf",
    "pyarrow",
    "av",
    "imageio",
    "pillow",
    "matplotlib",
    "tqdm",
)
MODELS = Path(__file__).resolve().parent / "models"
BF16 = ("avx512_bf16", "amx_bf16", "bf16")


def info(gl: str = "not asked") -> dict[str, Any]:
    """All of it as plain values. `gl`: what the caller found out about OpenGL, of which this package knows nothing."""
    return {
        "worldmodel": version("worldmodel"),
        "location": os.path.relpath(MODELS.parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "gl": gl,
        "cpu": cpu(),
        "accelerators": accelerators(),
        "models": {path.name: model(path) for path in sorted(MODELS.glob("*/")) if any(path.glob("*.json"))},
    }


def version(distribution: str) -> str:
    """The installed version."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def cpu() -> dict[str, Any]:
    """Cores this process may use, torch's threads, and whether bfloat16 products run in hardware."""
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "torch_threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16": any(name in features and bool(features[name]) for name in BF16),
    }


def accelerators() -> list[str]:
    """The devices torch can use besides the CPU."""
    found = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def model(folder: Path) -> dict[str, Any]:
    """A shipped model: its size in bytes, and the sha256 of every file of weights."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    weights = {str(path.relative_to(folder)): sha256_file(path) for path in files if path.suffix == ".safetensors"}
    return {"bytes": sum(path.stat().st_size for path in files), "sha256": weights}


def lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    """`info()` as text, one fact per line."""
    text: list[str] = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            text += [f"{indent}{key}:{'' if value else ' none'}", *lines(value, indent + "  ")]
        else:
            shown = (", ".join(map(str, value)) or "none") if isinstance(value, list) else value
            text.append(f"{indent}{key}: {shown}")
    return text
