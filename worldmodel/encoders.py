"""Frozen video encoders over `transformers`: the shipped small V-JEPA 2 and any other V-JEPA 2 are one code path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.errors import EncoderError

if TYPE_CHECKING:  # importing transformers takes seconds and writes to the environment; it waits until it is used
    from transformers import VJEPA2Model

# The statistics of ImageNet, with which V-JEPA 2 normalises its input (Assran et al. 2025, arXiv 2506.09985).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise_pixels(frames: Tensor, size: int) -> Tensor:
    """uint8 [...,S,S,3] -> float32 [...,3,size,size], ImageNet-normalised, resized (antialiased) where S != size."""
    if frames.dtype != torch.uint8 or frames.dim() < 4 or frames.shape[-1] != 3:
        raise EncoderError(
            f"expected uint8 frames [...,S,S,3], got {frames.dtype} {list(frames.shape)}: pass the pictures as they are"
        )
    pixels = frames.movedim(-1, -3).to(torch.float32)
    if frames.shape[-3:-1] != (size, size):
        flat = pixels.reshape(-1, *pixels.shape[-3:])
        flat = F.interpolate(flat, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        pixels = flat.reshape(*pixels.shape[:-2], size, size)
    mean = torch.tensor(MEAN, device=frames.device).view(3, 1, 1) * 255.0
    std = torch.tensor(STD, device=frames.device).view(3, 1, 1) * 255.0
    return (pixels - mean) / std


class VJEPAEncoder(nn.Module):
    """A frozen V-JEPA 2: each frame is doubled into one tubelet and encoded alone (arXiv 2506.09985, section 3)."""

    def __init__(self, model: VJEPA2Model) -> None:
        super().__init__()
        model.train(False)
        self.model = model.requires_grad_(False)
        config: Any = model.config
        self.image_size = int(config.crop_size)
        self.tokens = (self.image_size // int(config.patch_size)) ** 2
        self.width = int(config.hidden_size)

    @torch.inference_mode()
    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> float32 [B,T,M,F]."""
        batch, time = frames.shape[:2]
        pixels = normalise_pixels(frames.flatten(0, 1), self.image_size)
        clips = pixels.unsqueeze(1).expand(-1, int(self.model.config.tubelet_size), -1, -1, -1)
        hidden: Tensor = self.model.encoder(clips).last_hidden_state
        return hidden.float().reshape(batch, time, self.tokens, self.width)

    def train(self, mode: bool = True) -> VJEPAEncoder:
        """The encoder is frozen: it never leaves inference mode."""
        return super().train(False)


def load_encoder(source: str | Path) -> VJEPAEncoder:
    """The encoder in a local folder (config.json, model.safetensors) or under a hub id. Raises EncoderError."""
    from transformers import VJEPA2Model

    folder = Path(source)
    local = folder.is_dir()
    if local and not (folder / "config.json").is_file():
        raise EncoderError(
            f"expected an encoder folder with config.json, got {folder} without one: name another folder"
        )
    if not local and (folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/", "~"))):
        raise EncoderError(f"expected an encoder folder or a hub id like owner/name, got {source}: no such folder")
    if local:
        _check_model_type(folder / "config.json")
    try:
        model = VJEPA2Model.from_pretrained(str(source), local_files_only=local, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        cause = " ".join(str(error).split())[:200]
        raise EncoderError(
            f"expected a V-JEPA 2 encoder at {source}, got an error ({cause}): check its files"
        ) from error
    return VJEPAEncoder(model)


def _check_model_type(path: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind = found["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"expected JSON with a model_type in {path}, got something else: restore the file"
        ) from error
    if kind != "vjepa2":
        raise EncoderError(
            f"expected model_type 'vjepa2' in {path}, got {kind!r}: only V-JEPA 2 encoders are supported"
        )
