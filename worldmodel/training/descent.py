"""One step down a loss, and a running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worldmodel.errors import TrainingError
from worldmodel.training.distributed import average_gradients, averaged


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], clip_norm: float, step: int
) -> float:
    """Clip the gradient, follow it, and return the loss; both are means over all processes.

    Raises TrainingError, and takes no step, for a loss or a gradient that is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    average_gradients(parameters)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    value = finite(averaged(loss.detach()), norm, step)
    optimizer.step()
    return value


def finite(loss: Tensor, norm: Tensor, step: int) -> float:
    """The loss; norm: of its gradient. The only wait for the device in a step. Raises TrainingError unless finite."""
    value, size = torch.stack([loss.detach().float(), norm.float()]).tolist()
    for name, found in (("loss", value), ("norm of the gradient", size)):
        if not math.isfinite(found):
            raise TrainingError(f"expected a finite {name}, got {found} at step {step}: lower learning_rate")
    return float(value)


class Average:
    """The exponential moving average of the weights of parts, by `decay` a step; with decay 0 there is none.

    parts: what a checkpoint has to keep of it.
    """

    def __init__(self, parts: Mapping[str, nn.Module], decay: float) -> None:
        self._live, self._mean = nn.ModuleDict(parts), None
        if decay > 0.0:
            mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._mean = AveragedModel(self._live, multi_avg_fn=mean, use_buffers=True)
        self.parts: dict[str, nn.Module] = {} if self._mean is None else {"ema": self._mean}

    def update(self) -> None:
        """After every step."""
        if self._mean is not None:
            self._mean.update_parameters(self._live)

    def finish(self) -> None:
        """The parts take the averaged weights."""
        if self._mean is not None:
            self._live.load_state_dict(self._mean.module.state_dict())
