"""The energy panel of the videos, drawn with PIL: energy over decisions, and the true distance as a second line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, MUTED, GRID, PANEL = "#e6edf3", "#8b98a5", "#25313d", "#161f29"
ENERGY, DISTANCE, REACHED = "#58a6ff", "#f0a35e", "#3fb950"
OVERSAMPLE = 2  # lines are drawn larger and scaled down, which smooths them
MARGIN = (50, 34, 50, 34)  # [px] left, top, right, bottom around the axes

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: float) -> Font:
    """The typeface that ships with Pillow."""
    return ImageFont.load_default(size)


@dataclass(frozen=True)
class Axis:
    """A linear axis from 0 to a round number."""

    top: float
    step: float

    @staticmethod
    def over(values: Sequence[float]) -> Axis:
        """The smallest axis of at most five round steps that holds `values`; it starts at 0."""
        largest = max([value for value in values if math.isfinite(value)], default=0.0)
        if largest <= 0:
            return Axis(1.0, 0.25)
        magnitude = 10.0 ** math.floor(math.log10(largest / 5))
        step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10, 20) if factor * magnitude * 5 >= largest)
        return Axis(math.ceil(largest / step - 1e-9) * step, step)

    def ticks(self) -> list[float]:
        return [index * self.step for index in range(round(self.top / self.step) + 1)]

    def place(self, value: float) -> float:
        """0 at the bottom, 1 at the top; clipped."""
        return min(1.0, max(0.0, value / self.top))


@dataclass(frozen=True)
class Series:
    """energies: one per decision, None where unknown. distances: [m], one more. radius: [m]. budget: [decisions]."""

    energies: Sequence[float | None]
    distances: Sequence[float]
    radius: float
    budget: int


class Chart:
    """Axes drawn once; `at(decision)` draws the curves up to that decision."""

    def __init__(self, series: Series, width: int, height: int) -> None:
        self._series, self._width, self._height = series, width, height
        self._energy = Axis.over([value for value in series.energies if value is not None])
        self._distance = Axis.over([100 * value for value in series.distances])
        self._has_energy = any(value is not None for value in series.energies)
        self._axes = self._draw_axes()

    def at(self, decision: int) -> Image.Image:
        """The panel [width, height] after `decision` decisions."""
        picture = self._axes.copy()
        draw = ImageDraw.Draw(picture)
        distances = [self._point(i, self._distance.place(100 * d)) for i, d in enumerate(self._series.distances)]
        width, dot = (1.6, 3.0) if self._has_energy else (3.0, 5.0)
        _curve(draw, distances[: decision + 1], DISTANCE, width, dot)
        run: list[tuple[float, float]] = []
        for index, energy in enumerate(self._series.energies[: decision + 1]):
            if energy is None:
                _curve(draw, run, ENERGY, 3.0, 0)
                run = []
            else:
                run.append(self._point(index, self._energy.place(energy)))
        _curve(draw, run, ENERGY, 3.0, 5.0)
        return picture.resize((self._width, self._height), Image.Resampling.LANCZOS)

    def _point(self, decision: float, level: float) -> tuple[float, float]:
        left, top, right, bottom = MARGIN
        x = left + (self._width - left - right) * decision / self._series.budget
        y = self._height - bottom - (self._height - top - bottom) * level
        return x * OVERSAMPLE, y * OVERSAMPLE

    def _draw_axes(self) -> Image.Image:
        picture = Image.new("RGB", (self._width * OVERSAMPLE, self._height * OVERSAMPLE), PANEL)
        draw, small = ImageDraw.Draw(picture), font(13 * OVERSAMPLE)
        main = self._energy if self._has_energy else self._distance
        for tick in main.ticks():
            draw.line([self._point(0, main.place(tick)), self._point(self._series.budget, main.place(tick))], GRID, 2)
        if self._has_energy:
            self._labels(draw, self._energy, ENERGY, 0, "rm", -8)
            self._legend(draw, "energy to the goal", ENERGY, 0, "lm")
        if self._series.distances:
            self._labels(draw, self._distance, DISTANCE, self._series.budget, "lm", 8)
            self._legend(draw, "true distance [cm]", DISTANCE, self._series.budget, "rm")
            level = self._distance.place(100 * self._series.radius)
            _dashed(draw, self._point(0, level), self._point(self._series.budget, level), REACHED)
            x, y = self._point(self._series.budget, level)
            label = f"success {100 * self._series.radius:.3g} cm"
            draw.text((x - 4, y - 3 * OVERSAMPLE), label, font=small, fill=REACHED, anchor="rb")
        every = max(1, math.ceil(self._series.budget / 6))
        for count in range(0, self._series.budget + 1, every):
            x, y = self._point(count, 0)
            draw.text((x, y + 9 * OVERSAMPLE), str(count), font=small, fill=MUTED, anchor="mt")
        return picture

    def _labels(self, draw: ImageDraw.ImageDraw, axis: Axis, colour: str, at: int, anchor: str, gap: int) -> None:
        for tick in axis.ticks():
            x, y = self._point(at, axis.place(tick))
            draw.text((x + gap * OVERSAMPLE, y), f"{tick:.4g}", font=font(13 * OVERSAMPLE), fill=colour, anchor=anchor)

    def _legend(self, draw: ImageDraw.ImageDraw, text: str, colour: str, at: int, anchor: str) -> None:
        x, _ = self._point(at, 0)
        draw.text((x, 16 * OVERSAMPLE), text, font=font(14 * OVERSAMPLE), fill=colour, anchor=anchor)


def _curve(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str, width: float, dot: float) -> None:
    if len(points) > 1:
        draw.line(points, colour, round(width * OVERSAMPLE), joint="curve")
    if points and dot:
        (x, y), radius = points[-1], dot * OVERSAMPLE
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _dashed(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    x, dash = start[0], 6 * OVERSAMPLE
    while x < end[0]:
        draw.line([(x, start[1]), (min(x + dash, end[0]), end[1])], colour, OVERSAMPLE)
        x += 2 * dash
