"""A goal image of the user's own: any size and common format, cropped and resized, and said so."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from worldmodel.errors import ImageError

MAX_PIXELS = 100_000_000  # a phone's largest picture fits; a decompression bomb does not


@dataclass(frozen=True)
class GoalImage:
    """pixels: uint8 [S,S,3]. note: what was done to the file, one line for the terminal."""

    pixels: NDArray[np.uint8]
    note: str


def load_goal_image(path: Path, side: int) -> GoalImage:
    """Read, rotate by EXIF, convert to RGB, crop the centred square and resize to `side` [px] with antialiasing.

    Raises ImageError for a file that is missing, no image, damaged or too large.
    """
    hint = "give a PNG or JPEG file as goal="
    if not path.is_file():
        raise ImageError(f"expected an image file, got {path} which is not a file: {hint}")
    try:
        with warnings.catch_warnings():
            # Sizes are judged below, before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise ImageError(_too_large(path, f"{opened.width} x {opened.height}"))
                picture = _rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(path, "far more")) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"expected an image, got {path} in a format that cannot be read: {hint}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what PIL's decoders raise for damaged files
        cause = " ".join(str(error).split())
        raise ImageError(f"expected an intact image, got {path} ({cause}): {hint}") from error
    square = centre_square(picture)
    resized = square.resize((side, side), Image.Resampling.LANCZOS)
    note = (
        f"goal image {path}: {picture.width} x {picture.height} px, "
        f"centre-cropped to {square.width} x {square.height}, resized to {side} x {side}"
    )
    return GoalImage(np.array(resized, dtype=np.uint8), note)


def centre_square(picture: Image.Image) -> Image.Image:
    """The largest centred square; an odd remainder leaves its extra row or column at the bottom or right."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _rgb(picture: Image.Image) -> Image.Image:
    """8-bit RGB; 16-bit grey is scaled, transparency is laid over white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("its pixels are neither 8-bit nor 16-bit")
        return Image.fromarray((values / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        overlay = picture.convert("RGBA")
        white = Image.new("RGBA", overlay.size, "white")
        return Image.alpha_composite(white, overlay).convert("RGB")
    return picture.convert("RGB")


def _too_large(path: Path, got: str) -> str:
    return (
        f"expected an image of at most {MAX_PIXELS // 1_000_000} million pixels, got {path} with {got}: make it smaller"
    )
