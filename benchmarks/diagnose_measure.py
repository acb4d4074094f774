"""What a model knows, measured on held-out windows of logged episodes, before any arm moves.

Legend: worldmodel/types.py. W windows of H decisions, n frames for probes, Q privileged dim, G goals. Everything that
is returned is in [cm] unless it says otherwise, or in the units of the data where a Sample says that it is not in [m].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from worldmodel.data.cache import encode_rows
from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.model import WorldModel
from worldmodel.pretrain.health import content, effective_rank, ridge_probe
from worldmodel.training.validate import MOVED, fit_probe

Array = NDArray[Any]

CM = 100.0
FEWEST = 5  # windows in which the object moved, below which nothing about it is measured
OFFSETS = torch.arange(-10, 11) / 10.0  # added to the true actions, in units of the action
PROBE_FRAMES, PROBE_STEPS = 1200, 800


@dataclass(frozen=True)
class Sample:
    """Windows of held-out episodes: latents z [W,H+1,N,D], proprio [W,H+1,P], actions [W,H,A], truth [W,H+1,Q].

    actions: in the model's units. moved: bool [W], the object, as the simulator or else as the model's own tracker sees
    it, went further than MOVED.
    probe_*: latents [n,N,D], proprio [n,P] and truth [n,Q] of single frames of training episodes. truth is None where
    the data has none. metres: whether proprio is in [m], as far as the data says what it is.
    """

    z: Tensor
    proprio: Tensor
    actions: Tensor
    truth: Tensor | None
    moved: Tensor
    probe_z: Tensor
    probe_proprio: Tensor
    probe_truth: Tensor | None
    metres: bool = True

    @property
    def horizon(self) -> int:
        return self.actions.shape[1]

    @property
    def unit(self) -> float:
        """What a length is multiplied with: to [cm], or by 1 where it is in the units of the data."""
        return CM if self.metres else 1.0


@dataclass(frozen=True)
class Forecast:
    """Of every window from its first frame: hand [W,H,P] and object [W,H,P] as the mean of the ensemble, both [m]."""

    hand: Tensor
    thing: Tensor
    places: Tensor


@torch.no_grad()
def sample(
    model: WorldModel,
    table: Table,
    *,
    split: tuple[Array, Array],
    windows: int,
    horizon: int,
    seed: int,
    metres: bool = True,
) -> Sample:
    """Draw and encode; split: episodes that were trained on, and those held out, which are measured.

    Raises DataError where the data does not fit the model, or no episode is long enough.
    """
    sizes = (table.actions.shape[1], table.proprio.shape[1])
    if sizes != (model.config.action_dim, model.config.proprio_dim):
        raise DataError(
            f"expected actions of {model.config.action_dim} and proprioception of {model.config.proprio_dim} numbers "
            f"as the model has, got {sizes[0]} and {sizes[1]}: name data of the same robot, and leave frame_skip= away"
        )
    rng, (train, others) = np.random.default_rng(seed), split
    starts = table.window_starts(horizon + 1, others)
    if len(starts) < FEWEST:
        raise DataError(
            f"expected at least {FEWEST} windows of {horizon + 1} frames in held-out episodes, got {len(starts)}: "
            "record more episodes or give a smaller horizon="
        )
    rows = np.sort(rng.choice(starts, min(windows, len(starts)), replace=False))[:, None] + np.arange(horizon + 1)
    known = np.flatnonzero(np.isin(table.episode, train))
    single = np.sort(rng.choice(known, min(PROBE_FRAMES, len(known)), replace=False))
    used, where = np.unique(rows, return_inverse=True)
    z = _latents(model, table, used)[where.reshape(rows.shape)]
    # A privileged column is used where every row that is looked at has it: data sets with and without may be mixed.
    whole = bool(np.isfinite(table.privileged[np.concatenate([rows.ravel(), single])]).all())
    truth = torch.from_numpy(table.privileged[rows]) if whole else None
    seen = thing(model, model.place(z)) if truth is None else truth
    return Sample(
        z,
        torch.from_numpy(table.proprio[rows]),
        model.config.normalise(torch.from_numpy(table.actions[rows[:, :-1]])),
        truth,
        (seen[:, -1] - seen[:, 0]).norm(dim=-1) > MOVED,
        _latents(model, table, single),
        torch.from_numpy(table.proprio[single]),
        torch.from_numpy(table.privileged[single]) if whole else None,
        metres,
    )


def thing(model: WorldModel, places: Tensor) -> Tensor:
    """Where the first of the objects is: places [...,N,Q] -> [...,P] [m]."""
    return model.locate(places)[..., 0, :]


def _latents(model: WorldModel, table: Table, rows: Array) -> Tensor:
    """[n,N,D] of the rows [n]."""
    parts = []
    for chunk in np.array_split(rows, max(1, len(rows) // 512)):
        features = model.norm(encode_rows(model.encoder, table.frames[chunk], model.device()))
        parts.append(model.project(features[:, None])[:, 0])
    return torch.cat(parts)


@torch.no_grad()
def forecast(model: WorldModel, s: Sample, actions: Tensor) -> Forecast:
    """What the model makes of actions [W,H,A] from the first frame of every window."""
    path, poses = model.rollout(model.place(s.z[:, 0]), s.proprio[:, 0], actions[:, None])
    places = path.mean(dim=0)[:, 0]
    return Forecast(poses[:, 0], thing(model, places), places)


def k_step_errors(model: WorldModel, s: Sample) -> dict[str, dict[str, list[float]]]:
    """{"hand" | "object": {"model": [H], "still": [H]}}, mean errors after 1..H decisions; still: nothing moves.

    object: against the truth, read from the predicted place by a probe, where there is a truth; else against where the
    tracker sees it. Over the windows in which it moved; left out where they are fewer than FEWEST.
    """
    made = forecast(model, s, s.actions)
    found = {"hand": _against(made.hand, s.proprio, s.unit)}
    if int(s.moved.sum()) >= FEWEST:
        predicted, true = made.thing[s.moved], thing(model, model.place(s.z[s.moved]))
        if s.truth is not None and s.probe_truth is not None:
            probe = fit_probe(model.place(s.probe_z), s.probe_truth, PROBE_STEPS)
            with torch.no_grad():
                predicted = probe(made.places[s.moved].flatten(0, 1)).unflatten(0, (-1, s.horizon))
            true = s.truth[s.moved]
        found["object"] = _against(predicted, true, s.unit)
    return found


def _against(predicted: Tensor, true: Tensor, unit: float) -> dict[str, list[float]]:
    """Errors per step of predictions [W,H,P] of true[:, 1:], and of true[:, :1] in their place."""
    error = (predicted - true[:, 1:]).norm(dim=-1).mean(dim=0) * unit
    still = (true[:, :1] - true[:, 1:]).norm(dim=-1).mean(dim=0) * unit
    return {"model": error.tolist(), "still": still.tolist()}


def action_sensitivity(model: WorldModel, s: Sample) -> dict[str, dict[str, float]]:
    """{"hand" | "object": {"change", "own", "others"}}: how far the end moves when another window's actions are given,
    and how far it then is from what was seen, with the window's own actions and with the others'.
    """
    own, others = forecast(model, s, s.actions), forecast(model, s, s.actions.roll(1, dims=0))
    found = {"hand": _swapped(own.hand, others.hand, s.proprio[:, -1], s.unit)}
    if int(s.moved.sum()) >= FEWEST:
        seen = thing(model, model.place(s.z[s.moved, -1]))
        found["object"] = _swapped(own.thing[s.moved], others.thing[s.moved], seen, s.unit)
    return found


def _swapped(own: Tensor, others: Tensor, seen: Tensor, unit: float) -> dict[str, float]:
    pairs = {"change": (own[:, -1], others[:, -1]), "own": (own[:, -1], seen), "others": (others[:, -1], seen)}
    return {name: float((a - b).norm(dim=-1).mean()) * unit for name, (a, b) in pairs.items()}


@torch.no_grad()
def cost_ranks(model: WorldModel, s: Sample, goals: int = 32) -> dict[str, dict[str, float]]:
    """{"hand" | "object": {"model", "still"}}: Spearman correlation of predicted and true distances to a goal.

    Each goal is the last frame of a window, as the planner sees it; the logged sequences of all others (for the object,
    those that moved it) are ranked by how near they are predicted to end, and by how near they did end. still: ranked
    by where they begin. object: only where the data has the truth.
    """
    made = forecast(model, s, s.actions)
    goal_hand = model.decode_proprio(s.z[:, -1])
    found = {"hand": _rank(made.hand[:, -1], s.proprio[:, 0], goal_hand, s.proprio[:, -1], goals)}
    if s.truth is not None and int(s.moved.sum()) >= FEWEST:
        seen = thing(model, model.place(s.z[s.moved]))
        found["object"] = _rank(made.thing[s.moved, -1], seen[:, 0], seen[:, -1], s.truth[s.moved, -1], goals)
    return found


def _rank(predicted: Tensor, begin: Tensor, goal: Tensor, true: Tensor, goals: int) -> dict[str, float]:
    """Of ends [W,P] that are predicted, begun at, seen as goals, and true; every few of them is a goal."""
    picked = torch.arange(len(true))[:: max(1, len(true) // goals)]
    costs = {"model": torch.cdist(goal[picked], predicted), "still": torch.cdist(goal[picked], begin)}
    distance = torch.cdist(true[picked], true)
    ranks: dict[str, list[float]] = {name: [] for name in costs}
    for row, own in enumerate(picked.tolist()):
        others = torch.arange(len(true)) != own
        for name, cost in costs.items():
            pair = cost[row, others], distance[row, others]
            # What is the same for all ranks nothing: its correlation is undefined, and counts as none.
            flat = any(bool((part == part[0]).all()) for part in pair)
            ranks[name].append(0.0 if flat else float(spearmanr(*pair).statistic))
    return {name: float(np.mean(values)) for name, values in ranks.items()}


@torch.no_grad()
def energy_landscape(model: WorldModel, s: Sample, windows: int = 64) -> Tensor:
    """[A,len(OFFSETS)], energy when one component of all actions is off by so much; 0 is what was really done.

    The goal is the window's own last frame: hand and, where the object moved, object distance at the end, averaged.
    """
    few = slice(0, windows)
    actions, axes = s.actions[few], s.actions.shape[-1]
    shifts = torch.diag_embed(OFFSETS.repeat(axes, 1).T).transpose(0, 1)  # [A,offsets,A]
    candidates = (actions[:, None] + shifts.flatten(0, 1)[None, :, None]).clamp(-1.0, 1.0)
    path, poses = model.rollout(model.place(s.z[few, 0]), s.proprio[few, 0], candidates)
    goal = s.z[few, -1]
    energy = (poses[:, :, -1] - model.decode_proprio(goal)[:, None]).norm(dim=-1)
    away = (thing(model, path.mean(dim=0)[:, :, -1]) - thing(model, model.place(goal))[:, None]).norm(dim=-1)
    energy = energy + away * s.moved[few, None]
    curves: Tensor = energy.mean(dim=0).view(axes, -1) * s.unit
    return curves


def probe_errors(s: Sample) -> dict[str, dict[str, float]]:
    """{"hand" | "object": {"linear", "mlp", "mean"}}: reading the truth off single latents; mean: without looking."""
    targets = {"hand": (s.probe_proprio, s.proprio[:, 0])}
    if s.probe_truth is not None and s.truth is not None:
        targets["object"] = (s.probe_truth, s.truth[:, 0])
    found = {}
    for name, (known, wanted) in targets.items():
        mlp = fit_probe(s.probe_z, known, PROBE_STEPS)
        with torch.no_grad():
            guesses = {
                "linear": ridge_probe((s.probe_z, known), (s.z[:, 0], wanted)),
                "mlp": mlp(s.z[:, 0]),
                "mean": known.mean(dim=0),
            }
        found[name] = {kind: float((guess - wanted).norm(dim=-1).mean()) * s.unit for kind, guess in guesses.items()}
    return found


@torch.no_grad()
def latent_spectrum(model: WorldModel, s: Sample) -> tuple[list[float], float]:
    """Shares of the variance of scene and pose latents, largest first, and their effective rank (both without unit)."""
    z = model.appearance(s.probe_z)
    flat = content(z).flatten(1).double()
    variances = torch.linalg.eigvalsh(flat.T @ flat / len(flat)).flip(0).clamp_min(0.0)
    shares: list[float] = (variances / variances.sum().clamp_min(1e-300)).tolist()
    return shares, effective_rank(z)
