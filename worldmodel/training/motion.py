"""How actions move a robot where a linear map does not say it: its heading turns the step, and walls stop it.

Legend: worldmodel/types.py; W windows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.data.table import Table
from worldmodel.model import WorldModel
from worldmodel.predictor import CompactPredictor
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.frames import TrackSettings, fit_part

MOTION_STAGE = 200  # far from the other fits
STEEP = 0.3  # [usual steps] errors beyond it weigh linearly: what stands in the way is hard to foresee


def fit_motion(
    model: WorldModel,
    table: Table,
    settings: TrackSettings,
    window: int,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train what the linear kinematics miss, in place and alike in all members, on rollouts of `window` decisions.

    Resumes when done. Ends on the CPU.
    """
    kinematics = model.predictor.kinematics
    residual = kinematics.residual
    assert residual is not None
    starts = table.window_starts(window + 1, table.split()[0])
    proprio, actions = torch.from_numpy(table.proprio).to(device), torch.from_numpy(table.actions).to(device)
    residual.fit(proprio[starts].cpu(), proprio[starts + 1].cpu())
    kinematics.to(device)

    def loss(rng: np.random.Generator) -> Tensor:
        rows = starts[rng.integers(0, len(starts), settings.batch_size)]
        at, errors = proprio[rows], []
        for step in range(window):
            at = kinematics.unfenced(at, actions[rows + step])  # a stopped step would have no gradient
            errors.append((at - proprio[rows + step + 1]) / residual.scale)
        wrong = torch.stack(errors)
        return F.smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=STEEP)

    idle = torch.optim.AdamW(residual.parameters(), lr=0.0)
    if load_checkpoint(folder, {"residual": residual}, idle) is None:
        residual.requires_grad_(True)
        optimizer = fit_part(residual, loss, settings, MOTION_STAGE, "motion", report)
        residual.requires_grad_(False)
        save_checkpoint(folder, 1, {"residual": residual}, optimizer, {})
    kinematics.to("cpu")
    for member in model.members:
        cast(CompactPredictor, member).kinematics.load_state_dict(kinematics.state_dict())
