"""Forecasts beside the truth, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from worldmodel.storage import atomic_file

STRIP = "forecast.png"
SIDE, GAP, LABEL = 96, 6, 22  # [px]
GROUND, INK = "#0d141b", "#e6edf3"


def write_strip(path: Path, frames: Tensor, drawn: Tensor, sharpness: Sequence[float]) -> None:
    """Write a PNG: pictures [L+1,3,s,s] over forecasts [L,3,s,s], in [0, 1], after 0, 1, 2, 4, ... decisions."""
    steps = [step for step in (0, 1, 2, 4, 8, 12, 16) if step < len(frames)]
    margin = 70
    size = (margin + len(steps) * (SIDE + GAP), 2 * (SIDE + GAP) + 2 * LABEL)
    strip = Image.new("RGB", size, GROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(13)
    for row, name in enumerate(("true", "predicted")):
        draw.text((4, LABEL + row * (SIDE + GAP) + SIDE // 2), name, font=font, fill=INK, anchor="lm")
    draw.text((4, size[1] - LABEL // 2), "sharpness", font=font, fill=INK, anchor="lm")
    for column, step in enumerate(steps):
        left = margin + column * (SIDE + GAP)
        strip.paste(_picture(frames[step]), (left, LABEL))
        strip.paste(_picture(drawn[step - 1] if step else frames[0]), (left, LABEL + SIDE + GAP))
        middle = left + SIDE // 2
        draw.text((middle, LABEL // 2), f"{step} decisions", font=font, fill=INK, anchor="mm")
        sharp = f"{sharpness[step - 1]:.2f}" if step else "given"
        draw.text((middle, size[1] - LABEL // 2), sharp, font=font, fill=INK, anchor="mm")
    with atomic_file(path) as temporary:
        strip.save(temporary, format="png", optimize=True)


def _picture(pixels: Tensor) -> Image.Image:
    small = (255.0 * pixels.clamp(0.0, 1.0)).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.NEAREST)
