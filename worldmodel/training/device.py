"""Which device to train on."""

from __future__ import annotations

import torch

from worldmodel.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """`auto` takes the accelerator where torch has one, otherwise the CPU. Raises ConfigError for what is not there."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"expected device=auto, cpu or an accelerator torch knows, got {name!r}") from error
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        found = "none" if accelerator is None else accelerator.type
        raise ConfigError(f"expected a device that is here, got {name!r} while torch finds {found}: use device=auto")
    return device
