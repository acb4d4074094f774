"""More than one process, started by torchrun: each takes its share of every batch, and gradients are averaged.

What depends on a whole batch (batch norm, covariances) sees the whole batch, so that the loss and its gradients are
those of one process with the same batch. Alone, everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from worldmodel.errors import ConfigError

PATIENCE = timedelta(days=7)  # the others wait while the first decodes, encodes and tracks


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did; yields this process's device. Only the first one prints."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type != "cpu":
        device = torch.device(device.type, int(os.environ["LOCAL_RANK"]))
        torch.accelerator.set_device_index(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        with ExitStack() as stack:
            if rank() > 0:
                stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which of the processes this is; 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process goes through alone; the others follow and find what it has left on the disk."""
    if rank() > 0:
        dist.barrier()
    yield
    if rank() == 0 and size() > 1:
        dist.barrier()


def require_shares(*batches: int) -> None:
    """Raise ConfigError unless batches of these sizes can be shared by the processes."""
    for count in batches:
        if count % size():
            raise ConfigError(f"expected batches of {count} to fit {size()} processes: choose another number of them")


def share(batch: NDArray[Any]) -> NDArray[Any]:
    """This process's part [B / size,...] of a batch [B,...] that all have drawn alike. Raises ConfigError."""
    require_shares(len(batch))
    return batch[rank() :: size()]


def gathered(values: Tensor) -> Tensor:
    """[n,...] of every process -> [n * size,...], with gradients to all of them."""
    return values if size() == 1 else torch.cat(all_gather(values.contiguous()))  # type: ignore[no-untyped-call]


@contextmanager
def over_whole_batches(norm: nn.Module) -> Iterator[None]:
    """A batch norm sees the inputs [n,...] of all processes, and gives each its own back."""
    if size() == 1:
        yield
        return
    hooks = [
        norm.register_forward_pre_hook(lambda _, given: gathered(given[0])),
        norm.register_forward_hook(lambda _, given, out: out.chunk(size())[rank()]),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over the processes."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if size() > 1:
        vector = parameters_to_vector(gradients)
        vector_to_parameters(averaged(vector), gradients)


def averaged(values: Tensor) -> Tensor:
    """The mean over the processes."""
    if size() > 1:
        values = values.clone()
        dist.all_reduce(values)
        values /= size()
    return values


@torch.no_grad()
def from_first(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Fill tensors, wherever they are, with those of the first process; device: where the processes can talk."""
    if size() > 1:
        for tensor in tensors:
            there = tensor.detach().to(device).contiguous()
            dist.broadcast(there, 0)
            tensor.copy_(there)
