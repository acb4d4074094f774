"""What training and planning take for granted about the robot's logs, and one line for each that looks otherwise.

Legend: N rows of the table, P proprioception dim.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldmodel.data.table import Table

Array = NDArray[Any]

SMALLEST, LARGEST = 0.01, 3.0  # [m] how far a robot's hand goes along one axis
POSITION = re.compile(r"(^|[^a-z])(x|y|z|pos|position|px|py|pz)([^a-z]|$)")
NAMELESS = re.compile(r"[a-z]*_?\d+")  # s0, state_1, 2: says nothing of what it is
LEAST_EXPLAINED = 0.1  # of the motion, by the actions


def doubts(table: Table, names: Sequence[str], place_dim: int, linear: bool = True) -> list[str]:
    """The notes to print; names: of the proprioception. place_dim: so many of its coordinates are the hand's place.

    linear: the pose is taken to move linearly with the action.
    """
    notes = [_hand(table.proprio, names, place_dim), _motion(table) if linear else None]
    return [f"note: {note}" for note in notes if note]


def _hand(proprio: Array, names: Sequence[str], place_dim: int) -> str | None:
    """The tracker (tracking.py) learns where the object is from where the hand goes."""
    low, high = np.quantile(proprio[:, :place_dim], [0.01, 0.99], axis=0)
    reasons = []
    for name, span in zip(names, high - low, strict=False):
        if not SMALLEST <= span <= LARGEST:
            reasons.append(f"{name!r} spans {span:.3g}")
        elif not (POSITION.search(name.lower()) or NAMELESS.fullmatch(name.lower())):
            reasons.append(f"one is called {name!r}")
    if not reasons:
        return None
    return (
        f"the first {place_dim} coordinates of the proprioception are taken for the hand's position in metres, but "
        f"{', '.join(reasons)}: the object will be tracked badly; put end-effector positions first if you have them"
    )


def _motion(table: Table) -> str | None:
    """The pose moves linearly with the action (Kinematics in predictor.py)."""
    rows = table.window_starts(2, table.split()[0])
    actions, moved = table.actions[rows].astype(np.float64), table.proprio[rows + 1] - table.proprio[rows]
    total = float(np.square(moved).sum())
    if total == 0.0:
        return "the proprioception never changes: nothing can be learned of how actions move the robot"
    rest = moved - actions @ np.linalg.lstsq(actions, moved, rcond=None)[0]
    share = 1.0 - float(np.square(rest).sum()) / total
    if share >= LEAST_EXPLAINED:
        return None
    return (
        f"actions are taken for steps of the pose, but explain {share:.0%} of its motion: absolute targets "
        "should be turned into differences"
    )
