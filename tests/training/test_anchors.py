"""What stops the fingers is in the hand: a toy robot that carries a thing, or misses it. And labels of logs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.projector import PLACE_UNIT
from worldmodel.training.anchors import anchors, holding, logged

WIDTH, SPEED = 0.5, 0.25  # where fingers around the thing stop, and how far they move per decision at action 1


def carrying(episodes: int = 12, closing: float = 1.0) -> tuple[Table, np.ndarray, np.ndarray]:
    """A table, where the thing is [N,3] and whether it is gripped [N]. closing: the sign of the action that closes.

    Every third log misses: the fingers close on nothing. They open far above, so that the thing falls by 1 cm.
    """
    rng = np.random.default_rng(0)
    proprio, actions, places, gripped = [], [], [], []
    for episode in range(episodes):
        hand, thing, fingers = rng.uniform(-0.2, 0.2, 3), rng.uniform(-0.1, 0.1, 3), 0.0
        misses, goal = episode % 3 == 2, rng.uniform(-0.2, 0.2, 3)
        for step in range(40):
            grip = bool(fingers >= WIDTH - 1e-6 and fingers < 0.9 and np.linalg.norm(hand - thing) < 1e-6)
            target = thing + (0.08 if misses else 0.0) if step < 16 else goal
            told = closing * (1.0 if 12 <= step < 30 else -1.0)
            move = np.clip(target - hand, -0.05, 0.05)
            proprio.append([*hand, fingers])
            actions.append([*(move / 0.05), told])
            places.append(thing.copy())
            gripped.append(grip)
            following = float(np.clip(fingers + SPEED * closing * told, 0.0, 1.0))
            inside = np.linalg.norm(hand - thing) < 1e-6
            fingers = min(following, WIDTH) if inside and following > fingers else following
            hand = hand + move
            if grip and told * closing > 0:
                thing = hand.copy()
            elif grip:
                thing = thing - [0.0, 0.0, 0.01]
    columns = (np.asarray(part, np.float32) for part in (actions, proprio, places))
    episode = np.repeat(np.arange(episodes), 40)
    return Table(np.zeros((len(episode), 1, 1, 3), np.uint8), *columns, episode), np.array(places), np.array(gripped)


@pytest.mark.parametrize("closing", [1.0, -1.0])
def test_what_stops_the_fingers_is_held(closing: float) -> None:
    table, _, gripped = carrying(closing=closing)
    told = closing * table.actions[:, 3] > 0.0
    same = np.append(table.episode[1:] == table.episode[:-1], False)
    held = holding(table, 3)
    np.testing.assert_array_equal(held, gripped & told & same)
    assert held.sum() > 50
    assert not held[np.isin(table.episode % 3, 2)].any(), "closed on nothing"


def test_it_is_where_the_hand_is_and_lies_where_it_was_let_go() -> None:
    table, places, _ = carrying()
    found = anchors(table, 3, 3)
    assert found is not None
    error = np.linalg.norm(found.places[:, 0] * PLACE_UNIT - places, axis=1)
    assert error[found.held[:, 0]].max() < 1e-6
    assert error[found.known[:, 0]].max() < 0.015
    caught = np.isin(table.episode % 3, (0, 1))
    assert found.known[caught].all()
    assert not found.known[~caught].any(), "nobody knows where a thing lies that was never held"


def test_a_thing_that_was_moved_between_two_grips_is_known_only_in_the_hand() -> None:
    """One log, twice in a row, the second time elsewhere; and one that says where empty fingers stop."""
    table, _, _ = carrying(episodes=3)
    rows = np.concatenate([np.arange(40), np.arange(40), np.arange(80, 120)])
    proprio = table.proprio[rows]
    proprio[40:80, :3] += 0.2
    log = np.repeat([0, 0, 1], 40)
    found = anchors(Table(table.frames[rows], table.actions[rows], proprio, table.privileged[rows], log), 3, 3)
    assert found is not None
    held = np.flatnonzero(found.held[:80, 0])
    left, right = held[held < 40][-1], held[held >= 40][0]
    assert not found.known[left + 1 : right].any()
    assert found.known[:left].all()


def test_a_hand_without_fingers_holds_nothing() -> None:
    table, _, _ = carrying()
    assert anchors(table, 4, 3) is None


def test_of_several_objects_it_is_the_one_that_the_log_is_about() -> None:
    table, _, _ = carrying()
    about = table.episode % 2
    found = anchors(Table(table.frames, table.actions, table.proprio, table.privileged, table.episode, about), 3, 3, 2)
    assert found is not None
    for index in range(2):
        assert found.held[about == index, index].any()
        assert not found.known[about != index, index].any()


def test_logged_positions_are_labels_of_what_lies_on_the_table() -> None:
    table, _, _ = carrying()
    two = np.concatenate([table.privileged, table.privileged + 0.1], axis=1)
    two[5, :3] = 7.0  # fell off
    found = logged(dataclasses.replace(table, privileged=two), 2, 2)
    assert found.places.shape == (len(table), 2, 2)
    np.testing.assert_allclose(found.places[7] * PLACE_UNIT, two[7].reshape(2, 3)[:, :2], atol=1e-6)
    assert not found.known[5, 0]
    assert found.known.sum() == found.held.sum() == 2 * len(table) - 1


def test_logs_without_positions_have_no_labels() -> None:
    table, _, _ = carrying()
    with pytest.raises(DataError, match=r"expected 6 numbers of privileged\.state in each row for places=log"):
        logged(table, 2, 2)
    unknown = dataclasses.replace(table, privileged=np.full_like(table.privileged, np.nan))
    with pytest.raises(DataError, match="leave places=touched, or record them"):
        logged(unknown, 2, 1)
