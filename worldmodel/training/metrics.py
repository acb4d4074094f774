"""Where the numbers of a run go: a file of JSON lines for every stage, and TensorBoard's, if wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldmodel.errors import ConfigError
from worldmodel.pretrain.fit import Metrics
from worldmodel.storage import written
from worldmodel.training.distributed import rank

Report = Callable[[dict[str, float]], None]


def require_tensorboard() -> None:
    """Raise ConfigError where the package is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "expected the package tensorboard for tensorboard=true, got none: pip install 'worldmodel[tensorboard]'"
        ) from error


def recorder(folder: Path, stage: str, first_step: int, tensorboard: bool) -> Report:
    """What takes {"step", ...} of a stage, from first_step on; of several processes the first one writes."""
    if rank() > 0:
        return lambda values: None
    lines = Metrics(folder / f"{stage}.jsonl", first_step)
    if not tensorboard:
        return lines
    from torch.utils.tensorboard import SummaryWriter

    place = folder / "tensorboard" / stage
    with written(place):
        writer: Any = SummaryWriter(str(place), purge_step=first_step)

    def report(values: dict[str, float]) -> None:
        lines(values)
        with written(place):
            for name, value in values.items():
                writer.add_scalar(name, value, int(values["step"]))
            writer.flush()

    return report
