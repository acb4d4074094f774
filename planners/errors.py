"""The one error planners raise on purpose, and the one way its message is put together."""

from __future__ import annotations

from torch import Tensor


class PlanningError(Exception):
    """Planning was asked for something impossible, or no candidate had a finite cost. The message is one line."""


def require(satisfied: bool, where: str, expected: str, got: object, how: str) -> None:
    """Raise PlanningError, in one line, unless `satisfied`."""
    if not satisfied:
        raise PlanningError(f"{where}: expected {expected}, got {got}; {how}")


def kind(tensor: object) -> str:
    """Dtype, shape and device of a tensor, as messages show them."""
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"
