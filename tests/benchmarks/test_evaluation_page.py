"""The films and the page: they decode, they parse, and everything they point at is there."""

from __future__ import annotations

import itertools
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks import report, video
from benchmarks.episode import Episode, Trace
from benchmarks.evaluate import evaluate
from benchmarks.plot import Axis, Chart, Series
from benchmarks.run import run
from benchmarks.video import Caption, compose, write_filmstrip, write_video
from tests.benchmarks.test_evaluation_run import SEED, subject
from tests.benchmarks.tiny_env import HomingAgent, TinyEnv, maker
from worldmodel.errors import ConfigError

CAPTION = Caption("tiny", "homing", TinyEnv.success_radius, TinyEnv.budget, 0.2)
GREEN = (63, 185, 80)


def traced(agent: Any = None, seed: int = SEED, **options: Any) -> tuple[Episode, Trace]:
    kept: list[tuple[Episode, Trace]] = []
    evaluate(
        maker(**options),
        agent or HomingAgent(),
        [seed],
        trace=True,
        on_episode=lambda episode, trace: kept.append((episode, trace)),  # type: ignore[arg-type]
    )
    return kept[0]


def test_the_film_decodes_to_the_pictures(tmp_path: Path) -> None:
    episode, trace = traced()
    count = write_video(tmp_path / "film.mp4", episode, trace, CAPTION)
    expected = TinyEnv.budget * video.FRAMES_PER_DECISION + video.FRAMES_PER_SECOND * video.LAST_FRAME_SECONDS
    pictures = list(compose(episode, trace, CAPTION))
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (video.WIDTH, video.HEIGHT)
        assert stream.width % 2 == stream.height % 2 == 0
        assert stream.average_rate == video.FRAMES_PER_SECOND
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == count == expected
    assert len(pictures) == TinyEnv.budget + 1
    for index, frame in enumerate(frames):
        shown = pictures[min(index // video.FRAMES_PER_DECISION, TinyEnv.budget)]
        assert np.abs(frame.astype(int) - shown.astype(int)).mean() < 4
    # The index comes before the pictures, so that a browser can start at once.
    content = (tmp_path / "film.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def has_green_frame(picture: np.ndarray) -> bool:
    column = picture[video.HEADER + video.LABEL : -video.GAP, video.GAP - 3]
    return bool((column == GREEN).all())


def test_the_camera_is_framed_green_while_the_task_is_solved() -> None:
    episode, trace = traced()
    framed = [has_green_frame(picture) for picture in compose(episode, trace, CAPTION)]
    assert framed == trace.success
    assert True in framed
    assert False in framed


def test_the_planned_path_is_drawn_where_it_is() -> None:
    episode, trace = traced()
    first = next(compose(episode, trace, CAPTION))
    trace.paths[0] = None
    bare = next(compose(episode, trace, CAPTION))
    changed = np.argwhere((first != bare).any(-1))
    low, high = changed.min(0), changed.max(0)
    path = traced()[1].paths[0]
    assert path is not None
    corner = np.array([video.GAP, video.HEADER + video.LABEL])
    assert np.abs(low[::-1] - (path.min(0) + corner)).max() < 12  # the dots and the smoothing
    assert np.abs(high[::-1] - (path.max(0) + corner)).max() < 12


def test_a_path_that_leaves_the_picture_or_is_not_finite_is_no_trouble(tmp_path: Path) -> None:
    class Wild(HomingAgent):
        def act(self, observations: Any) -> Any:
            actions = super().act(observations)
            path = self.decision.path
            assert path is not None
            path[:] = float("nan") if len(self.seen) % 2 else 1e4
            return actions

    episode, trace = traced(Wild())
    assert trace.paths[0] is None
    assert trace.paths[1] is not None
    assert write_video(tmp_path / "film.mp4", episode, trace, CAPTION) > 0


def test_the_chart_shows_no_future() -> None:
    energies = [4.0, 3.0, None, 2.0, 1.0]
    series = Series(energies, [0.1, 0.08, 0.06, 0.04, 0.02, 0.01], 0.03, 5)
    chart = Chart(series, 432, 384)
    pictures = [np.asarray(chart.at(index)).astype(int) for index in range(6)]
    changed = [np.argwhere((after != before).any(-1)) for before, after in itertools.pairwise(pictures)]
    for index, pixels in enumerate(changed):
        assert len(pixels) > 0
        # What decision i+1 adds lies right of decision i's points (and over their dots).
        assert pixels[:, 1].min() >= 50 + (432 - 100) * index / 5 - 10


@pytest.mark.parametrize(
    ("values", "top"), [([], 1.0), ([0.0], 1.0), ([float("inf"), 3.0], 3.0), ([0.0037], 0.004), ([1e9], 1e9)]
)
def test_axes_are_round(values: list[float], top: float) -> None:
    axis = Axis.over(values)
    assert axis.top == pytest.approx(top)
    assert len(axis.ticks()) <= 6
    assert all(axis.place(value) == pytest.approx(value / axis.top) for value in values if value < 1e300)


def test_the_filmstrip_is_start_goal_final(tmp_path: Path) -> None:
    _, trace = traced()
    write_filmstrip(tmp_path / "strip.png", trace)
    with Image.open(tmp_path / "strip.png") as strip:
        pixels = np.asarray(strip).astype(int)
    thirds = [pixels[26:, start : start + 256] for start in (0, 264, 528)]
    for third, source in zip(thirds, (trace.frames[0], trace.goal, trace.frames[-1]), strict=True):
        expected = np.asarray(Image.fromarray(source).resize((256, 256), Image.Resampling.LANCZOS)).astype(int)
        assert np.array_equal(third, expected)


class Page(HTMLParser):
    """Checks that tags match, and collects what the page refers to and says."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.films: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href") and value is not None]
        if tag == "video":
            self.films.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def test_the_page_of_several_results(tmp_path: Path) -> None:
    broken = {"fault": "raises", "fault_seed": SEED + 1}
    run(subject(**broken), episodes=2, seed=SEED, out=tmp_path / "first task", video=True)
    summary = run(subject(), episodes=3, seed=SEED, out=tmp_path / "second", video=False)
    page = Page(report.write_report(tmp_path).read_text(encoding="utf-8"))
    assert len(page.references) == 2 * 2  # a film and a strip per episode
    for reference in page.references:
        assert "://" not in reference
        assert (tmp_path / unquote(reference)).is_file()
    assert all({"controls", "muted", "loop"} <= set(film) for film in page.films)
    assert page.text.count(summary["protocol"]["sha256"]) == 1
    assert f"torch {summary['versions']['torch']}" in page.text
    assert "environment at decision 3: RuntimeError: the world broke" in page.text
    assert page.text.count("seed 1000001") == 2
    for rate, interval in (("50%", "9 to 91"), ("100%", "44 to 100")):
        assert f"{rate}{interval}" in page.text


def test_each_result_has_a_page_of_its_own(tmp_path: Path) -> None:
    run(subject(), episodes=1, seed=SEED, out=tmp_path, video=True)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert [(tmp_path / reference).is_file() for reference in page.references] == [True] * 2


def test_what_users_named_is_escaped(tmp_path: Path) -> None:
    import dataclasses

    nasty = dataclasses.replace(subject(), task="<script>alert(1)</script>")
    run(nasty, episodes=1, seed=SEED, out=tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<script>alert(1)</script>" in Page(text).text


def test_the_page_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "drive first" in capsys.readouterr().err
    assert report.main([]) == 2
    capsys.readouterr()
    run(subject(), episodes=1, seed=SEED, out=tmp_path / "row")
    capsys.readouterr()
    assert report.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    with pytest.raises(ConfigError):
        report.write_report(tmp_path / "absent")
