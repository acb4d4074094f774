"""What DreamerV3 is trained on: goals and rewards in hindsight, what it sees of a picture; held without sheeprl."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE

from tests.training.test_training_resume import table
from worldmodel.baselines.dreamer_data import (
    distance_reward,
    hindsight_sequences,
    labels,
    later_rows,
    pooled,
    small_pictures,
)
from worldmodel.baselines.dreamer_policy import DreamerConfig
from worldmodel.cli import main
from worldmodel.encoders import VJEPAEncoder
from worldmodel.errors import ConfigError
from worldmodel.pretrain.vjepa import build_model

LENGTH = 12  # rows of an episode of table()


@pytest.mark.parametrize("span", [None, 1, 4])
def test_a_later_row_is_one_of_the_same_episode(span: int | None) -> None:
    data, rows = table(), np.arange(120).repeat(200)
    goals = later_rows(data, rows, np.random.default_rng(0), span)
    assert (data.episode[rows] == data.episode[goals]).all()
    last = rows % LENGTH == LENGTH - 1
    assert (goals[last] == rows[last]).all()
    assert (goals[~last] > rows[~last]).all()
    from_the_first = (goals - rows)[rows % LENGTH == 0]
    shares = np.bincount(from_the_first)[1:] / len(from_the_first)
    assert len(shares) == (LENGTH - 1 if span is None else span)
    assert shares == pytest.approx(1 / len(shares), abs=0.03)


def test_a_reached_goal_ends_the_pursuit_and_the_next_row_begins_another() -> None:
    data = table()
    starts = data.window_starts(8, data.split()[0])
    found = hindsight_sequences(data, starts, np.random.default_rng(0), 500, 8, None, absorbing=True)
    rows, goals, first = found.rows, found.goals, found.first
    assert np.isin(rows[0], starts).all()
    assert (np.diff(rows, axis=0) == 1).all()
    assert (data.episode[rows] == data.episode[goals]).all()
    assert (goals >= rows).all()
    assert first[0].all()
    assert (first[1:] == found.reached[:-1]).all()
    assert (goals[1:] == goals[:-1])[~first[1:]].all()
    assert found.reached[:-1].any()
    assert not found.reached[0].any(), "no goal is the row that it is pursued from, but for an episode's last"


def test_one_goal_stays_where_reaching_it_ends_nothing() -> None:
    data = table()
    starts = data.window_starts(8, data.split()[0])
    found = hindsight_sequences(data, starts, np.random.default_rng(0), 500, 8, 3, absorbing=False)
    assert (found.goals == found.goals[0]).all()
    assert (found.rows > found.goals).any()
    assert not found.first[1:].any()


def test_the_labels_of_either_reward() -> None:
    data = table()
    starts = data.window_starts(8, data.split()[0])
    found = hindsight_sequences(data, starts, np.random.default_rng(0), 50, 8, None, absorbing=True)
    sparse = {name: value[..., 0].numpy() for name, value in labels(found, True).items()}
    assert np.array_equal(sparse["rewards"], found.rows == found.goals)
    assert np.array_equal(sparse["terminated"], sparse["rewards"])
    assert np.array_equal(sparse["is_first"], found.first)
    assert not sparse["truncated"].any()
    dense = labels(found, False, torch.full(found.rows.shape, -2.0))
    assert dense["rewards"].shape == (8, 50, 1)
    assert dense["rewards"].unique().tolist() == [-2.0]
    assert not dense["terminated"].any()
    assert not labels(found, False)["rewards"].any()


def test_the_distance_is_nothing_at_the_goal_and_grows_away_from_it() -> None:
    now = torch.tensor([[1.0, 2.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.0], [9.0, 2.0, 2.0, 3.0]])
    assert distance_reward(now, now[:1]).tolist() == [0.0, -1.0, -4.0]


def test_pooled_features_are_those_of_the_pooled_encoder() -> None:
    encoder = VJEPAEncoder(build_model(ARCHITECTURE, 0))
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = pooled(encoder(frames), 2)
    assert found.shape == (2, 3, 4 * 24)
    torch.testing.assert_close(found, encoder.pooled(2)(frames).flatten(2))
    assert torch.equal(pooled(encoder(frames), 1), encoder(frames).flatten(2))


def test_small_pictures_are_means_of_pixels() -> None:
    frames = torch.from_numpy(table().frames[:3])
    found = small_pictures(frames, 16)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 3, 16, 16))
    mean = frames.float().reshape(3, 16, 2, 16, 2, 3).mean((2, 4)).permute(0, 3, 1, 2)
    assert (found.float() - mean).abs().max() <= 0.5


@pytest.mark.parametrize(("setting", "value"), [("reward", "money"), ("sees", "sounds"), ("compare", "prices")])
def test_a_setting_of_another_kind_is_refused(setting: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"expected kind.{setting} to be one of .* got '{value}'"):
        DreamerConfig(3, 3, **{setting: value})


def test_without_sheeprl_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sheeprl", None)
    assert main(["bench", "suite=dreamerv3_reacher", f"out={tmp_path / 'out'}"]) == 2
    assert "expected the package sheeprl for dreamerv3, got none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
