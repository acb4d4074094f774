"""What a film shows of the guardrails, and what the settings of a drive make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.drive import drive
from benchmarks.episode import CAMERA_SIDE, Episode, Trace
from benchmarks.evaluate import evaluate
from benchmarks.video import GAP, HEADER, LABEL, SIDE, WIDTH, Caption, compose
from tests.benchmarks.tiny_env import TinyEnv, maker
from tests.tiny_model import tiny_model
from worldmodel.cli_options import Options
from worldmodel.errors import ConfigError
from worldmodel.guardrails import Guardrails


def film(guardrails: Guardrails | None) -> tuple[Episode, Trace, list[NDArray[np.uint8]]]:
    """One episode of an agent that plans, with its pictures."""
    found: list[tuple[Episode, Trace]] = []

    def keep(episode: Episode, trace: Trace | None) -> None:
        assert trace is not None
        found.append((episode, trace))

    agent = tiny_model().agent(guardrails=guardrails)
    evaluate(maker(), agent, [100_000], trace=True, on_episode=keep)
    (episode, trace), caption = found[0], Caption("tiny", "planning", 0.05, TinyEnv.budget, 0.2)
    return episode, trace, list(compose(episode, trace, caption))


def red(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels have the colour of what is forbidden."""
    return (picture[..., 0] > 180) & (picture[..., 1] < 150) & (picture[..., 2] < 150)


def camera(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[HEADER + LABEL : HEADER + LABEL + SIDE, GAP : GAP + SIDE]


def tag(picture: NDArray[np.uint8]) -> int:
    return int(red(picture[:HEADER, WIDTH // 2 :]).sum())


def test_boxes_and_spheres_of_the_user_are_outlined_in_every_picture() -> None:
    box, sphere = [0.1, 0.1, 0.0, 0.3, 0.2, 0.1], [0.7, 0.6, 0.0, 0.2]
    limits = Guardrails(boxes=[box], spheres=[sphere], hard=False, weight=0.0)
    _, trace, pictures = film(limits)
    assert len(trace.regions) == 2
    edges, ring = (region / CAMERA_SIDE for region in trace.regions)  # this camera looks down on 1 m
    assert set(np.round(edges[..., 0].flatten(), 3)) >= {0.1, 0.3}
    assert (edges.min(axis=(0, 1)).round(6).tolist(), edges.max(axis=(0, 1)).round(6).tolist()) == (
        [0.1] * 2,
        [0.3, 0.2],
    )
    assert np.hypot(*(ring - [0.7, 0.6]).T).max() == pytest.approx(0.2, abs=1e-6)
    bare = film(None)
    assert bare[1].regions == []
    for plain, drawn in zip(bare[2], pictures, strict=True):
        rows, columns = np.nonzero(red(camera(drawn)) & ~red(camera(plain)))
        around = np.abs(np.hypot(columns / SIDE - 0.7, rows / SIDE - 0.6) - 0.2) < 0.02
        assert around.sum() > 200
        assert (np.abs(rows / SIDE - 0.15) < 0.07).sum() > 100


def test_what_lies_outside_the_picture_draws_no_lines_across_it() -> None:
    everywhere = Guardrails(boxes=[[-90, -90, -90, 90, 90, 90], [0.5, 0.5, 0, 90, 0.6, 1]], hard=False, weight=0.0)
    _, trace, _ = film(everywhere)
    assert len(trace.regions[0]) == 0
    assert len(trace.regions[1]) > 0
    assert np.abs(trace.regions[1]).max() <= 2 * CAMERA_SIDE


def test_the_picture_says_when_a_decision_was_blocked() -> None:
    episode, trace, pictures = film(Guardrails(boxes=[[-90, -90, -90, 90, 90, 90]]))
    assert trace.blocked == [True] * TinyEnv.budget
    assert episode.blocked == TinyEnv.budget
    assert min(map(tag, pictures[:-1])) > 500
    assert tag(pictures[-1]) == 0  # no decision follows the last picture
    assert max(map(tag, film(None)[2])) == 0


DRIVE = Options("drive").compose()


@pytest.mark.parametrize("limit", ["speed", "action_rate"])
def test_a_limit_of_zero_is_refused_and_does_not_mean_none(tmp_path: Path, limit: str) -> None:
    settings: dict[str, Any] = {**DRIVE, "out": tmp_path / "row"}
    with pytest.raises(ConfigError, match=f"expected guardrails.{limit} > 0, got 0.0"):
        drive(**{**settings, "guardrails": {**DRIVE["guardrails"], limit: 0.0}})
    assert not (tmp_path / "row").exists()
