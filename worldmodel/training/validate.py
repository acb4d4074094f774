"""How good is the model on held-out episodes, in centimetres, before any arm moves.

Legend: W windows, H rollout steps, Q privileged dim. Simulator truth enters only here, through a probe.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.model import WorldModel
from worldmodel.training.fit import read_windows

Array = NDArray[Any]

MOVED = 0.03  # [m] an object that went further than this over the window counts as moved


@torch.no_grad()
def latents(model: WorldModel, table: Table, features: Rows, rows: Array) -> Tensor:
    """Latents [n,N,D] of the rows [n]."""
    parts = []
    for start in range(0, len(rows), 256):
        picked = rows[start : start + 256][:, None]
        parts.append(model.project(read_windows(table, features, picked)[0])[:, 0])
    return torch.cat(parts)


def fit_probe(z: Tensor, truth: Tensor, steps: int = 1500, seed: int = 0) -> nn.Module:
    """A small MLP from latents [n,N,D] to truth [n,Q], trained for measurement only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = nn.Sequential(nn.Flatten(1), nn.Linear(z[0].numel(), 128), nn.GELU(), nn.Linear(128, 128), nn.GELU())
        probe.append(nn.Linear(128, truth.shape[1]))
    mean = truth.mean(dim=0)
    optimizer = torch.optim.Adam(probe.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(steps):
            pick = torch.randint(0, len(z), (256,), generator=generator)
            loss = (probe(z[pick]) - (truth[pick] - mean)).square().mean() * 1e4
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    last = probe[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.add_(mean)
    return probe.eval()


def validate(model: WorldModel, table: Table, features: Rows, horizon: int = 8) -> dict[str, float | None]:
    """Errors [m] on held-out episodes: pose from a latent, and after open-loop rollouts, beside 'nothing moves'.

    object_*: the same for the privileged position, over the windows in which it moved; None without privileged data.
    """
    rng = np.random.default_rng(0)
    train, held_out = table.split()
    starts = table.window_starts(horizon + 1, held_out)
    if len(starts) == 0:
        return {}
    rows = rng.choice(starts, min(3000, len(starts)), replace=False)[:, None] + np.arange(horizon + 1)
    z0 = latents(model, table, features, rows[:, 0])
    proprio, actions = torch.from_numpy(table.proprio[rows]), torch.from_numpy(table.actions[rows])
    path, poses = _roll(model, model.place(z0), proprio[:, 0], actions[:, :horizon])
    found: dict[str, float | None] = {
        "pose_now_m": _error(model.position(model.decode_proprio(z0)), model.position(proprio[:, 0])),
        f"pose_after_{horizon}_m": _error(model.position(poses[:, -1]), model.position(proprio[:, -1])),
        f"pose_still_{horizon}_m": _error(model.position(proprio[:, 0]), model.position(proprio[:, -1])),
    }
    truth = torch.from_numpy(table.privileged)
    known = table.window_starts(1, train)
    known = known[np.isfinite(table.privileged[known]).all(axis=1)]
    known = rng.choice(known, 8000) if len(known) else known
    moved = (truth[rows[:, -1]] - truth[rows[:, 0]]).norm(dim=-1) > MOVED
    near = truth[rows[:, 0]].abs().amax(dim=-1) < 0.5
    pick = moved & near & torch.isfinite(truth[rows]).all(dim=-1).all(dim=-1)
    if len(known) == 0 or int(pick.sum()) < 5:
        return {**found, "object_now_m": None, f"object_after_{horizon}_m": None, f"object_still_{horizon}_m": None}
    kept = known[np.abs(table.privileged[known]).max(axis=1) < 0.5]
    probe = fit_probe(model.place(latents(model, table, features, kept)), truth[kept])
    with torch.no_grad():
        found["object_now_m"] = _error(probe(model.place(z0)[pick]), truth[rows[:, 0]][pick])
        found[f"object_after_{horizon}_m"] = _error(probe(path[pick, -1]), truth[rows[:, -1]][pick])
        found[f"object_still_{horizon}_m"] = _error(truth[rows[:, 0]][pick], truth[rows[:, -1]][pick])
    return found


@torch.no_grad()
def _roll(model: WorldModel, places: Tensor, proprio: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    path, poses = model.rollout(places, proprio, actions[:, None])
    return path.mean(dim=0)[:, 0], poses[:, 0]


@torch.no_grad()
def _error(predicted: Tensor, true: Tensor) -> float:
    return float((predicted - true).norm(dim=-1).mean())
