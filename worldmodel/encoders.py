"""Frozen encoders over `transformers`: any V-JEPA 2 (the shipped small one among them), DINOv2 and DINOv3."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.errors import EncoderError, WorldModelError
from worldmodel.storage import write_json

if TYPE_CHECKING:  # importing transformers takes seconds and writes to the environment; it waits until it is used
    from transformers import PreTrainedModel

SHIPPED = Path(__file__).parent / "models" / "jaco" / "encoder"  # what encoder=shipped stands for
DINO = ("dinov2", "dinov2_with_registers", "dinov3_vit")
PREPROCESSING = "preprocessor_config.json"
BOOKKEEPING = ("architectures", "dtype", "transformers_version")  # of a config: decides nothing of what comes out
# The statistics of ImageNet, with which all of them normalise their input (e.g. V-JEPA 2, arXiv 2506.09985).
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


class FrozenEncoder(nn.Module, ABC):
    """Pictures in, a square grid of patch tokens out; every frame is encoded alone.

    image_size: side of the pictures that the model sees [px]; others are resized to it. pool: side of the squares of
    tokens that are averaged into one: 256 tokens become 64 (pool=2) or 16 (pool=4), and planning on them cheaper.
    Raises EncoderError for sizes that do not divide.
    """

    def __init__(self, model: PreTrainedModel, image_size: int, pool: int = 1) -> None:
        super().__init__()
        model.train(False)
        self.model = model.requires_grad_(False)
        config: Any = model.config
        self.image_size, self.pool = image_size, pool
        self.grid, left = divmod(image_size, int(config.patch_size))
        if left or pool < 1 or self.grid % pool:
            raise EncoderError(
                f"expected pictures of whole patches, and a pool that divides their grid, got {image_size} px in "
                f"patches of {config.patch_size} px and pool={pool}: choose another pool or encoder"
            )
        self.tokens = (self.grid // pool) ** 2
        self.width = int(config.hidden_size)

    @torch.inference_mode()
    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B,T,S,S,3] -> float32 [B,T,M,F]."""
        batch, time = frames.shape[:2]
        hidden = self._patches(normalise_pixels(frames.flatten(0, 1), self.image_size)).float()
        if self.pool > 1:
            squares = hidden.transpose(1, 2).reshape(len(hidden), self.width, self.grid, self.grid)
            hidden = F.avg_pool2d(squares, self.pool).flatten(2).transpose(1, 2)
        return hidden.reshape(batch, time, self.tokens, self.width)

    @abstractmethod
    def _patches(self, pixels: Tensor) -> Tensor:
        """float32 [n,3,S,S] -> [n,grid*grid,F], row by row."""

    def pooled(self, pool: int) -> FrozenEncoder:
        """The same encoder, weights shared, with another pool. Raises EncoderError for one that does not divide."""
        return type(self)(self.model, self.image_size, pool)

    def sha256(self) -> str:
        """Hex digest over what decides its output, but for the pool: config, image_size, names and bytes of weights."""
        config: Any = self.model.config
        known = {key: value for key, value in config.to_diff_dict().items() if key not in BOOKKEEPING}
        digest = hashlib.sha256(json.dumps([known, self.image_size], sort_keys=True, default=str).encode())
        for key, value in self.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors to `folder`, in the layout of `transformers`."""
        self.model.save_pretrained(folder)

    def train(self, mode: bool = True) -> FrozenEncoder:
        """The encoder is frozen: it never leaves inference mode."""
        return super().train(False)


class VJEPAEncoder(FrozenEncoder):
    """A frozen V-JEPA 2: each frame is doubled into one tubelet (arXiv 2506.09985, section 3).

    Its rotary positions are right for pictures of the config's crop_size only, so that is always the image_size.
    """

    def __init__(self, model: PreTrainedModel, image_size: int | None = None, pool: int = 1) -> None:
        config: Any = model.config
        super().__init__(model, int(config.crop_size), pool)

    def _patches(self, pixels: Tensor) -> Tensor:
        encoder: Any = self.model
        clips = pixels.unsqueeze(1).expand(-1, int(encoder.config.tubelet_size), -1, -1, -1)
        hidden: Tensor = encoder.encoder(clips).last_hidden_state
        return hidden


class DINOEncoder(FrozenEncoder):
    """A frozen DINOv2 or DINOv3 (arXiv 2304.07193, 2508.10104), without its class token and registers."""

    def _patches(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return hidden[:, -(self.grid**2) :]

    def save(self, folder: Path) -> None:
        """As above, and the crop size, which is not that of the config where the two differ."""
        super().save(folder)
        write_json(folder / PREPROCESSING, {"crop_size": {"height": self.image_size, "width": self.image_size}})


def load_encoder(source: str | Path) -> FrozenEncoder:
    """The encoder in a local folder (config.json, model.safetensors), under a hub id, or the `shipped` model's own.

    It computes in float32, whatever precision its weights are kept in. A folder is read without a network. Raises
    EncoderError, also where weights are missing.
    """
    folder = SHIPPED if str(source) == "shipped" else Path(source)
    local = folder.is_dir()
    if local and not (folder / "config.json").is_file():
        raise EncoderError(
            f"expected an encoder folder with config.json, got {folder} without one: name another folder"
        )
    if not local and (folder.exists() or str(source).count("/") != 1 or str(source).startswith((".", "/", "~"))):
        raise EncoderError(
            f"expected an encoder folder, a hub id like owner/name, or shipped, got {source}: no such folder"
        )
    name = str(folder) if local else str(source)
    if local:
        _check_model_type(_model_type(folder / "config.json"), name)
    try:
        model, missing, crop = _pretrained(name, local)
    except WorldModelError:
        raise
    except Exception as error:  # a foreign folder can fail in any way, as with the errors of safetensors
        cause = " ".join(str(error).split())[:200]
        raise EncoderError(f"expected an encoder at {source}, got an error ({cause}): check its files") from error
    config: Any = model.config
    _check_model_type(config.model_type, name)
    if missing:
        raise EncoderError(f"expected the encoder's weights at {source}, got none for {missing[0]}: restore the file")
    if config.model_type == "vjepa2":
        return VJEPAEncoder(model)
    return DINOEncoder(model, int(config.image_size) if crop is None else crop)


def _pretrained(name: str, local: bool) -> tuple[PreTrainedModel, list[str], int | None]:
    """The model, the names of weights that its files lack, and the side of the pictures it is meant for [px]."""
    try:
        from transformers import AutoModel
        from transformers.image_processing_base import ImageProcessingMixin
    except Exception as error:  # a torchvision that was built for another torch fails in any way
        cause = " ".join(str(error).split())[:200]
        raise WorldModelError(
            f"expected transformers to import, got an error ({cause}): if it is torchvision's, install the one "
            "that was built for this torch, or none (pip uninstall torchvision)"
        ) from error

    model, report = AutoModel.from_pretrained(
        name, local_files_only=local, use_safetensors=True, output_loading_info=True, dtype=torch.float32
    )
    # The predictor that V-JEPA was trained with is not used here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("predictor."))
    try:
        crop = ImageProcessingMixin.get_image_processor_dict(name, local_files_only=local)[0].get("crop_size")
    except OSError:  # there is none
        crop = None
    return model, missing, int(crop["height"]) if isinstance(crop, dict) else crop


def _model_type(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"expected JSON with a model_type in {path}, got something else: restore the file"
        ) from error


def _check_model_type(kind: Any, where: str) -> None:
    if kind not in ("vjepa2", *DINO):
        raise EncoderError(
            f"expected model_type vjepa2, {', '.join(DINO)} at {where}, got {kind!r}: choose another encoder"
        )
