"""What makes the host wait for the device, or copies data to it, found on a machine that has none.

Both empty the queue of a GPU, and neither can be part of a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

# Operators that read values, or whose result is as large as values say.
READS = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim", "_unique2",
    "unique_consecutive", "bincount", "_linalg_check_errors",
}  # fmt: skip
# Methods that read all values of a tensor, some of them without an operator.
FETCHES = {"tolist", "numpy", "cpu", "__array__"}
MAKERS = {"tensor", "as_tensor", "asarray"}


@contextmanager
def device_waits() -> Iterator[list[str]]:
    """The names of what happened inside that a device would have to be waited for, in order.

    Numbers that torch.tensor makes for no device, or for "cpu" by name, stay on the host, where Adam counts its steps:
    reading them is no wait. What this cannot see is `.to` from one device to the other, as long as there is only one.
    """
    found: list[str] = []
    with _Operators(found), _Methods(found):
        yield found


class _Methods(TorchFunctionMode):
    """Sees what is called in Python, before it is taken apart."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", str(func)), kwargs or {}
        elsewhere = kwargs.get("device") not in (None, "cpu")
        number = name in MAKERS and elsewhere and isinstance(args[0], int | float)
        if name in FETCHES or number or (name == "new_tensor" and isinstance(args[1], int | float)):
            self._found.append(name)
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    """Sees what is computed, also within other functions."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found, self._on_host = found, WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        result = func(*args, **kwargs)
        if name == "lift_fresh" and result.dim() == 0:
            self._on_host[result] = True
        elif self._waits(name, args, kwargs):
            self._found.append(name)
        return result

    def _waits(self, name: str, args: Any, kwargs: Any) -> bool:
        if name == "_to_copy":
            return torch.device(kwargs.get("device") or args[0].device).type != args[0].device.type
        if name == "copy_":
            return args[0].device != args[1].device and args[1].dim() > 0
        if name in ("index", "index_put_", "index_put"):
            return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in args[1])
        if name == "repeat_interleave":
            return isinstance(args[0], Tensor) and not kwargs.get("output_size")
        # What is lifted was a list or an array.
        return name == "lift_fresh" or (name in READS and args[0] not in self._on_host)
