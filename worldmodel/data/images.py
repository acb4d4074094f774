"""Frames as PNG bytes and as mp4 files, both ways."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.data.schema import COPY_FILE, one_line
from worldmodel.errors import DataError

VIDEO_CODECS = {"libx264": "h264", "libsvtav1": "av1"}
"""Encoders in order of preference, and the name the data set records."""

KEYFRAME_EVERY = 10
MEND_SHAPE = "mend the shape in meta/info.json"


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """uint8 [h,w,3] as a PNG (RFC 2083), each pixel less its left neighbour: twice as fast as Pillow at level 1."""
    height, width, _ = image.shape
    flat = image.reshape(height, width * 3)
    lines = np.empty((height, width * 3 + 1), dtype=np.uint8)
    lines[:, 0] = 1  # filter type "Sub"
    lines[:, 1:4] = flat[:, :3]
    np.subtract(flat[:, 3:], flat[:, :-3], out=lines[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.data, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )


def decode_image(data: bytes, shape: tuple[int, int], where: str) -> NDArray[np.uint8]:
    """PNG or JPEG bytes to uint8 [h,w,3]; the size is checked before anything is decompressed.

    Raises DataError naming `where` when the bytes are no picture, or one of another size or mode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.mode != "RGB" or (image.height, image.width) != shape:
                got = f"{image.height} x {image.width} {image.mode} in {where}: convert it, or {MEND_SHAPE}"
                raise DataError(f"expected a picture of {shape[0]} x {shape[1]} RGB, got {got}")
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, zlib.error, struct.error) as error:
        raise DataError(f"expected a PNG or JPEG picture, got {one_line(error)} in {where}: {COPY_FILE}") from error


def video_codec() -> tuple[str, str]:
    """The encoder to use and the codec name to record. Raises DataError when PyAV has none of them."""
    for encoder, codec in VIDEO_CODECS.items():
        if encoder in av.codecs_available:
            return encoder, codec
    raise DataError(f"expected PyAV with one of {', '.join(VIDEO_CODECS)}, got neither: record pictures, video=false")


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """uint8 [L,h,w,3] as an mp4 in yuv420p, frame r at r / fps [s]; the same frames give the same bytes."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise DataError(f"expected even picture sides for video, got {height} x {width}: record pictures, video=false")
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        # One thread and no reordering: bytes that do not depend on the machine's cores, and times that start at zero.
        encoder, _ = video_codec()
        stream = container.add_stream(encoder, rate=fps, options={"crf": "18", "preset": "veryfast", "bf": "0"})
        if encoder == "libsvtav1":
            stream.options = {"crf": "30", "preset": "8", "svtav1-params": "lp=1"}
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = KEYFRAME_EVERY
        stream.thread_count = 1
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for position, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = position, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_video(
    path: Path, times: NDArray[np.float64], fps: int, shape: tuple[int, int], where: str
) -> Iterator[NDArray[np.uint8]]:
    """The frames nearest to the ascending `times` [L] [s], each within half a frame: uint8 [h,w,3], one by one.

    Raises DataError naming `where` for a missing, damaged or too short file, or pictures of another size.
    """
    if not path.is_file():
        raise DataError(f"expected the video {path} for {where}, which does not exist: {COPY_FILE}")
    row, image, error = 0, None, 0.5 / fps
    try:
        for frame, time in _decoded(path, times[0] - 0.5 / fps, times[-1] + 0.5 / fps):
            nearest = int(np.abs(times - time).argmin())
            if nearest > row and image is not None:  # frames come in order: there is no nearer one to come
                yield image
                row, image, error = row + 1, None, 0.5 / fps
            if nearest == row and abs(times[row] - time) < error:
                image, error = _rgb(frame, shape, where), abs(times[row] - time)
    except (av.FFmpegError, IndexError, OverflowError) as failure:
        got = f"{path} damaged ({one_line(failure)}) for {where}: {COPY_FILE}"
        raise DataError(f"expected a whole video, got {got}") from failure
    if image is not None:
        yield image
        row += 1
    if row < len(times):
        got = f"none, the video is cut short or belongs to another episode: {COPY_FILE}"
        raise DataError(f"expected a frame at {times[row]:.4f} s for row {row} of {where} in {path}, got {got}")


def _decoded(path: Path, start: float, stop: float) -> Iterator[tuple[av.VideoFrame, float]]:
    """The frames of a video from `start` to `stop`, with their times [s]."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}  # a damaged frame is an error, not a guess
        if start > 0 and stream.time_base is not None:
            container.seek(int(start / stream.time_base), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.time is None or frame.time < start:
                continue
            if frame.time > stop:
                return
            yield frame, frame.time


def _rgb(frame: av.VideoFrame, shape: tuple[int, int], where: str) -> NDArray[np.uint8]:
    if (frame.height, frame.width) != shape:
        got = f"{frame.height} x {frame.width} for {where}: {MEND_SHAPE}"
        raise DataError(f"expected a video of {shape[0]} x {shape[1]}, got {got}")
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
