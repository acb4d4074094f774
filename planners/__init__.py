"""Planners: pure functions that search the action sequence of lowest cost. They know no model and no environment."""

from __future__ import annotations

from planners.cem import cem
from planners.errors import PlanningError
from planners.gradient import gradient
from planners.icem import icem
from planners.mppi import mppi
from planners.random_shooting import random_shooting
from planners.receding import shift, shift_actions
from planners.types import ActionBox, CostFn, Diagnostics, Plan, Planner, Proposal, Select

__all__ = [
    "ActionBox",
    "CostFn",
    "Diagnostics",
    "Plan",
    "Planner",
    "PlanningError",
    "Proposal",
    "Select",
    "cem",
    "gradient",
    "icem",
    "mppi",
    "random_shooting",
    "shift",
    "shift_actions",
]
