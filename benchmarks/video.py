"""One film per episode: camera with the planned path | goal image | energy over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.episode import Episode, Trace
from benchmarks.plot import INK, MUTED, OVERSAMPLE, PANEL, REACHED, Chart, Series, font
from worldmodel.storage import atomic_file

SIDE, GAP, HEADER, LABEL = 384, 20, 52, 26  # [px]
WIDTH, HEIGHT = 4 * GAP + 2 * SIDE + 432, HEADER + LABEL + SIDE + GAP
BACKGROUND, FAILED = "#0d141b", "#f85149"
PATH_NEAR, PATH_FAR = (255, 214, 10, 255), (255, 90, 40, 70)  # RGBA of the first and the last planned step
FORBIDDEN = (248, 81, 73, 230)  # RGBA
FRAMES_PER_SECOND = 10
FRAMES_PER_DECISION = 3  # shown at two thirds of real time
LAST_FRAME_SECONDS = 1
CONTAINER = {"movflags": "+faststart"}  # the index first, so that a browser can start before the end has arrived


@dataclass(frozen=True)
class Caption:
    """What the header says. radius: of success [m]; budget: [decisions]; decision_s: [s]."""

    task: str
    agent: str
    radius: float
    budget: int
    decision_s: float


def write_video(path: Path, episode: Episode, trace: Trace, caption: Caption) -> int:
    """Write an MP4 (H.264, yuv420p) that browsers play; returns the number of frames. `trace` has one or more."""
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4", options=CONTAINER) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        count, last = 0, len(trace.frames) - 1
        for index, picture in enumerate(compose(episode, trace, caption)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for _ in range(FRAMES_PER_SECOND * LAST_FRAME_SECONDS if index == last else FRAMES_PER_DECISION):
                frame.pts = count
                container.mux(stream.encode(frame))
                count += 1
        container.mux(stream.encode())
    return count


def write_filmstrip(path: Path, trace: Trace) -> None:
    """Write a PNG: start | goal | final."""
    side, gap, label = 256, 8, 26
    strip = Image.new("RGB", (3 * side + 2 * gap, side + label), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for index, (name, pixels) in enumerate(
        [("start", trace.frames[0]), ("goal", trace.goal), ("final", trace.frames[-1])]
    ):
        strip.paste(_scaled(pixels, side), (index * (side + gap), label))
        draw.text((index * (side + gap) + 4, label // 2), name, font=font(15), fill=INK, anchor="lm")
    with atomic_file(path) as temporary:
        strip.save(temporary, format="png", optimize=True)


def compose(episode: Episode, trace: Trace, caption: Caption) -> Iterator[NDArray[np.uint8]]:
    """uint8 [HEIGHT,WIDTH,3], one picture per observation."""
    width = WIDTH - 4 * GAP - 2 * SIDE
    chart = Chart(Series(episode.energies, episode.distances_m, caption.radius, caption.budget), width, SIDE)
    base = _base(episode, trace, caption)
    for index, pixels in enumerate(trace.frames):
        picture = base.copy()
        path = trace.paths[index] if index < len(trace.paths) else None
        picture.paste(_camera(pixels, path, trace.regions), (GAP, HEADER + LABEL))
        picture.paste(chart.at(index), (3 * GAP + 2 * SIDE, HEADER + LABEL))
        _status(ImageDraw.Draw(picture), episode, trace, caption, index)
        yield np.asarray(picture)


def _base(episode: Episode, trace: Trace, caption: Caption) -> Image.Image:
    """What no frame changes."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((GAP, HEADER // 2), caption.task, font=font(22), fill=INK, anchor="lm")
    start = GAP + draw.textlength(caption.task, font=font(22)) + 14
    about = f"{caption.agent}  ·  seed {episode.seed}"
    draw.text((start, HEADER // 2 + 2), about, font=font(16), fill=MUTED, anchor="lm")
    names = ("camera and planned path" if any(path is not None for path in trace.paths) else "camera", "goal image")
    thought = any(energy is not None for energy in episode.energies)
    for index, name in enumerate((*names, "energy over decisions" if thought else "distance over decisions")):
        x = GAP + index * (SIDE + GAP)
        draw.text((x, HEADER + LABEL // 2 - 3), name, font=font(15), fill=MUTED, anchor="lm")
    picture.paste(PANEL, (3 * GAP + 2 * SIDE, HEADER + LABEL, WIDTH - GAP, HEADER + LABEL + SIDE))
    picture.paste(_scaled(trace.goal, SIDE), (2 * GAP + SIDE, HEADER + LABEL))
    return picture


def _camera(
    pixels: NDArray[np.uint8], path: NDArray[np.float64] | None, regions: Sequence[NDArray[np.float64]]
) -> Image.Image:
    """The camera picture with the outlines of forbidden regions and the planned path [H+1,2] [px], fading with time."""
    picture = _scaled(pixels, SIDE)
    if path is None and not regions:
        return picture
    layer = Image.new("RGBA", (SIDE * OVERSAMPLE, SIDE * OVERSAMPLE), (*PATH_FAR[:3], 0))
    draw = ImageDraw.Draw(layer)
    scale = SIDE / pixels.shape[0] * OVERSAMPLE
    for edge in (edge for region in regions for edge in region * scale):
        draw.line([(float(x), float(y)) for x, y in edge], FORBIDDEN, 2 * OVERSAMPLE)
    points = [] if path is None else [(float(x), float(y)) for x, y in path * scale]
    for index in reversed(range(len(points) - 1)):
        colour = _blend(index / max(1, len(points) - 2))
        draw.line([points[index], points[index + 1]], colour, round(3.5 * OVERSAMPLE))
        _dot(draw, points[index + 1], 3.2 * OVERSAMPLE, colour)
    if points:
        _dot(draw, points[0], 5 * OVERSAMPLE, (255, 255, 255, 255))
        _dot(draw, points[0], 3.4 * OVERSAMPLE, PATH_NEAR)
    small = layer.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Image.alpha_composite(picture.convert("RGBA"), small).convert("RGB")


def _status(draw: ImageDraw.ImageDraw, episode: Episode, trace: Trace, caption: Caption, index: int) -> None:
    """The clock, the tag and, while the task is solved, a green frame around the camera."""
    text = f"decision {index} / {caption.budget}  ·  {index * caption.decision_s:.1f} s"
    draw.text((WIDTH - GAP, HEADER // 2 + 1), text, font=font(16), fill=MUTED, anchor="rm")
    if trace.success[index]:
        box = (GAP - 4, HEADER + LABEL - 4, GAP + SIDE + 3, HEADER + LABEL + SIDE + 3)
        draw.rectangle(box, outline=REACHED, width=4)
    last = index == len(trace.frames) - 1
    if last and episode.error is not None:
        tag, colour = "failed", FAILED
    elif last and episode.held:
        tag, colour = "held", REACHED
    elif index < len(trace.blocked) and trace.blocked[index]:
        tag, colour = "blocked", FAILED
    elif any(trace.success[: index + 1]):
        tag, colour = "reached", REACHED
    else:
        return
    right = WIDTH - GAP - draw.textlength(text, font=font(16)) - 20
    width = draw.textlength(tag, font=font(16)) + 24
    draw.rounded_rectangle((right - width, HEADER // 2 - 14, right, HEADER // 2 + 15), 14, fill=colour)
    draw.text((right - width / 2, HEADER // 2 + 1), tag, font=font(16), fill="#ffffff", anchor="mm")


def _scaled(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)


def _blend(share: float) -> tuple[int, int, int, int]:
    mixed = [round(near + (far - near) * share) for near, far in zip(PATH_NEAR, PATH_FAR, strict=True)]
    return (mixed[0], mixed[1], mixed[2], mixed[3])


def _dot(
    draw: ImageDraw.ImageDraw, point: tuple[float, float], radius: float, colour: tuple[int, int, int, int]
) -> None:
    x, y = point
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
