"""Where objects are known to be: in a robot's fingers, or because the logs say so.

What stops the fingers is between them.
Fingers that are told to move, do not, and are not at an end of their way, hold something: it is where the hand is.
Where it was taken up it lay before, and where it was let go it lies afterwards, until it is taken up again. No label,
no picture. Legend: N rows of the table, O objects, A action dim, P proprioception dim, C those of its coordinates that
say where the hand is, Q place dim.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.schema import PRIVILEGED
from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.projector import PLACE_UNIT

Array = NDArray[Any]

TOLD = 0.3  # least action that tells fingers to move, in units of the model's action
STALLED = 0.05  # share of the fingers' way that they move at most while something stops them
ENDS = 0.15  # share of it at either end where they stop by themselves
TABLE = 0.5  # [m] from the middle of the table, beyond which nothing lies on it
SAME = 0.6  # [place units] between where a thing was let go and taken up again, if nobody moved it meanwhile


@dataclass(frozen=True)
class Anchors:
    """Where objects are known to be: places [N,O,Q] in units of PLACE_UNIT; held, known: bool [N,O].

    known: where they are held, and where they lay before or after.
    """

    places: Array
    held: Array
    known: Array


def holding(table: Table, positions: int) -> Array:
    """Whether the fingers hold something at each row: bool [N]. positions: C; the further proprioception is theirs."""
    found = np.zeros(len(table), bool)
    same = np.append(table.episode[1:] == table.episode[:-1], False)
    for finger in range(positions, table.proprio.shape[1]):
        opening = table.proprio[:, finger].astype(np.float64)
        step = np.append(np.diff(opening), 0.0)
        low, high = np.quantile(opening, [0.001, 0.999])
        way = max(high - low, 1e-9)
        action = table.actions[:, _mover(table.actions[same], step[same])]
        between = np.abs(opening - (low + high) / 2) < (0.5 - ENDS) * way
        found |= same & (np.abs(action) > TOLD) & (np.abs(step) < STALLED * way) & between
    return found


def logged(table: Table, place_dim: int, objects: int) -> Anchors:
    """The objects' positions as the logs have them, x, y and z [m] of each: labels, for those who have them.

    One that has left the table is not known. Raises DataError where the logs have no positions of so many objects.
    """
    truth = table.privileged
    if truth.shape[1] < 3 * objects or np.isnan(truth[:, : 3 * objects]).any():
        got = f"{truth.shape[1]} or fewer: leave places=touched, or record them"
        raise DataError(f"expected {3 * objects} numbers of {PRIVILEGED} in each row for places=logged, got {got}")
    places = truth[:, : 3 * objects].reshape(len(table), objects, 3)
    there = np.abs(places).max(axis=2) < TABLE
    kept = np.where(there[..., None], places[..., :place_dim], 0.0) / PLACE_UNIT
    return Anchors(kept.astype(np.float32), there, there)


def _mover(actions: Array, steps: Array) -> int:
    """Which of the actions [n,A] the steps [n] follow."""
    return int(np.argmax(np.abs(actions.T.astype(np.float64) @ steps)))


def anchors(table: Table, positions: int, place_dim: int, objects: int = 1) -> Anchors | None:
    """What the grip says of all rows, of the object that a row's episode is about; None where nothing is ever held."""
    held = holding(table, positions)
    if not held.any():
        return None
    about = np.zeros(len(table), np.int64) if objects == 1 or table.task is None else table.task
    places = np.zeros((len(table), objects, place_dim), np.float32)
    gripped, known = (np.zeros((len(table), objects), bool) for _ in range(2))
    hand = table.proprio[:, :place_dim] / PLACE_UNIT
    for rows in np.split(np.arange(len(table)), np.flatnonzero(np.diff(table.episode)) + 1):
        where, sure = _lying(hand[rows], held[rows])
        places[rows, about[rows]], known[rows, about[rows]], gripped[rows, about[rows]] = where, sure, held[rows]
    return Anchors(places, gripped, known)


def _lying(hand: Array, held: Array) -> tuple[Array, Array]:
    """Of one episode of L rows, where the thing is [L,Q], and where that is known: bool [L]."""
    rows = np.flatnonzero(held)
    where, known = hand.copy(), held.copy()
    if len(rows) == 0:
        return where, known
    first, last = rows[0], rows[-1]
    where[:first], known[:first] = hand[first], True
    where[last + 1 :], known[last + 1 :] = hand[last], True
    for left, right in itertools.pairwise(rows):
        if np.linalg.norm(hand[left] - hand[right]) < SAME:
            where[left + 1 : right], known[left + 1 : right] = hand[left], True
    return where, known
