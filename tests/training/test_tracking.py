"""The tracker finds an object from the robot's own logs: a toy world whose truth it never sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.projector import PlaceTracker
from worldmodel.training.tracking import (
    TrackSettings,
    fit_tracker,
    precisions,
    smooth,
    touched,
    touched_each,
    track,
    within,
)

CPU = torch.device("cpu")
EPISODES, LENGTH = 60, 30


def pushing() -> tuple[Table, np.ndarray, torch.Tensor]:
    """A hand that wanders and pushes a disc of 5 cm radius; features mix both places; the scene is noisy."""
    rng = np.random.default_rng(0)
    hands, things = [], []
    for _ in range(EPISODES):
        hand, thing, way = rng.uniform(-0.2, 0.2, 2), rng.uniform(-0.15, 0.15, 2), rng.normal(size=2)
        for _ in range(LENGTH):
            hands.append(hand.copy())
            things.append(thing.copy())
            if rng.random() < 0.3:
                way = thing - hand + rng.normal(size=2) * 0.05
            step = 0.04 * way / (np.linalg.norm(way) + 1e-9) + rng.normal(size=2) * 0.005
            for _ in range(8):
                hand = np.clip(hand + step / 8, -0.25, 0.25)
                apart = thing - hand
                if np.linalg.norm(apart) < 0.05:
                    thing = hand + 0.05 * apart / (np.linalg.norm(apart) + 1e-9)
    hand, thing = np.array(hands, np.float32), np.array(things, np.float32)
    mix = rng.normal(size=(4, 32))
    features = np.tanh(np.concatenate([hand, thing], axis=1) / 0.2 @ mix).reshape(-1, 4, 8).astype(np.float16)
    scene = torch.from_numpy(thing / 0.1 + rng.normal(size=thing.shape).astype(np.float32) * 0.02)[:, None]
    frames = np.zeros((len(hand), 1, 1, 3), np.uint8)
    proprio = np.concatenate([hand, np.full((len(hand), 1), 0.04, np.float32)], axis=1)
    episode = np.repeat(np.arange(EPISODES), LENGTH)
    return Table(frames, proprio, proprio, thing, episode), features, scene


def pushing_two() -> tuple[Table, np.ndarray, torch.Tensor]:
    """The same with a second disc that another log's hand pushed: each log moves one, and its task says which."""
    table, _, scene = pushing()
    task = np.arange(EPISODES) % 2
    rng = np.random.default_rng(2)
    resting = np.repeat(rng.uniform(-0.15, 0.15, (EPISODES, 2)), LENGTH, axis=0).astype(np.float32)
    about = np.repeat(task, LENGTH)
    things = np.stack([table.privileged, resting], axis=1)
    things = np.where(about[:, None, None] == 0, things, things[:, ::-1])
    mix = rng.normal(size=(6, 48))
    seen = np.concatenate([table.proprio[:, :2], things.reshape(-1, 4)], axis=1) / 0.2
    features = np.tanh(seen @ mix).reshape(-1, 4, 12).astype(np.float16)
    pair = Table(table.frames, table.actions, table.proprio, things.reshape(-1, 4), table.episode, about)
    return pair, features, scene


def settings(rounds: int) -> TrackSettings:
    return TrackSettings(steps=300, rounds=rounds, learning_rate=2e-3, seed=0, batch_size=128)


def fresh(seed: int = 0) -> PlaceTracker:
    torch.manual_seed(seed)
    return PlaceTracker(4, 8, 2, 3, token_width=8, hidden=64)


def nothing(values: dict[str, float]) -> None:
    """Metrics nobody reads."""


def test_what_is_touched_is_what_moved() -> None:
    table, _, scene = pushing()
    moved = np.zeros(len(table))
    moved[:-1] = np.linalg.norm(table.privileged[1:] - table.privileged[:-1], axis=1)
    inside = within(table)
    sure = touched(table, scene)
    assert sure[inside & (moved > 0.03)].min() > 0.5
    assert sure[inside & (moved < 0.001)].max() < 0.2
    assert not sure[~inside].any()


def test_smoothing_keeps_jumps_and_removes_noise() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.uniform(-2, 2, (20, 2)), 15, axis=0)
    noisy = truth + rng.normal(size=truth.shape) * 0.15
    ends = np.ones(len(truth), bool)
    ends[-1] = False
    error = np.linalg.norm(smooth(noisy, np.ones(len(truth)), ends) - truth, axis=1).mean()
    assert error < 0.5 * np.linalg.norm(noisy - truth, axis=1).mean()
    cut = np.zeros(len(truth), bool)
    assert np.allclose(smooth(noisy, np.ones(len(truth)), cut), noisy, atol=1e-6), (
        "nothing is smoothed over the end of an episode"
    )


def test_smoothing_looks_through_what_hides_the_object() -> None:
    truth = np.repeat([[0.0, 0.0], [2.0, 1.0]], 15, axis=0)
    seen, doubt = truth.copy(), np.zeros(len(truth))
    seen[5:9] += 1.5
    doubt[5:9] = 6.0
    inside = np.ones(len(truth), bool)
    inside[-1] = False
    assert np.abs(smooth(seen, precisions(doubt), inside) - truth).max() < 0.05


def test_the_object_is_found_without_labels(tmp_path: Path) -> None:
    table, features, scene = pushing()
    tracker = fresh()
    fit_tracker(tracker, table, features, scene, settings(2), tmp_path, CPU, nothing)
    with torch.no_grad():
        places = tracker.locate(torch.from_numpy(track(tracker.body, features, CPU)))[:, :2].numpy()
    held = np.isin(table.episode, table.split()[1])
    error = np.linalg.norm(places - table.privileged, axis=1)[held]
    assert np.median(error) < 0.03, "the object is 10 cm wide and lies anywhere in 30 cm"
    assert np.corrcoef(places[held, 0], table.privileged[held, 0])[0, 1] > 0.95


def test_a_stopped_tracker_resumes_exactly(tmp_path: Path) -> None:
    table, features, scene = pushing()
    whole, stopped, resumed = fresh(), fresh(), fresh(seed=5)
    fit_tracker(whole, table, features, scene, settings(1), tmp_path / "a", CPU, nothing)

    def stop(values: dict[str, float]) -> None:
        if values["step"] >= 750:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_tracker(stopped, table, features, scene, settings(1), tmp_path / "b", CPU, stop)
    fit_tracker(resumed, table, features, scene, settings(1), tmp_path / "b", CPU, nothing)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_two_objects_are_told_apart_by_the_tasks_of_the_logs(tmp_path: Path) -> None:
    table, features, scene = pushing_two()
    torch.manual_seed(0)
    tracker = PlaceTracker(4, 12, 2, 3, token_width=8, hidden=64, objects=2)
    tracks = fit_tracker(tracker, table, features, scene, settings(2), tmp_path, CPU, nothing)
    assert tracks.shape == (len(table), 2, 2)
    with torch.no_grad():
        seen = tracker(torch.from_numpy(features).float()[:, None])[:, 0]
    places = tracker.locate(seen[..., :2])[..., :2].numpy()
    held = np.isin(table.episode, table.split()[1])
    error = np.linalg.norm(places - table.privileged.reshape(-1, 2, 2), axis=-1)[held]
    assert np.median(error, axis=0).max() < 0.06, "half as many logs for each as of the one object above"
    swapped = np.linalg.norm(places - table.privileged.reshape(-1, 2, 2)[:, ::-1], axis=-1)[held]
    assert np.median(swapped) > 2 * np.median(error)


def test_logs_that_do_not_tell_the_objects_apart_are_refused() -> None:
    table, _, scene = pushing()
    with pytest.raises(DataError, match=r"expected logs of 2 tasks, each about one of the objects, got 1: give"):
        touched_each(table, scene, 2)


def test_a_tracker_in_another_frame_says_the_same_of_it() -> None:
    tracker = PlaceTracker(4, 8, 2, 3, token_width=8, hidden=64, objects=3)
    features = torch.randn(5, 1, 4, 8)
    generator = torch.Generator().manual_seed(0)
    turn, shift = torch.randn(3, 2, 2, generator=generator), torch.randn(3, 2, generator=generator)
    with torch.no_grad():
        before = tracker(features)[:, 0]
        tracker.transform(turn, shift)
        after = tracker(features)[:, 0]
    wanted = torch.einsum("noq,oqr->nor", before[..., :2], turn) + shift
    torch.testing.assert_close(after[..., :2], wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(after[..., 2:], before[..., 2:])
