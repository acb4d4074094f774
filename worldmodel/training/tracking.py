"""Learns where objects are from the robot's own logs: no label, no camera calibration.

An arm moves an object by touching it. So while the scene changes the object goes about where the hand goes, and while
it does not the object rests, whatever the hand does. Of several objects, the task of the log says which one it is:

1. the tracker is fitted so that its output differs between two frames by the hand's path over the decisions between
   them in which the scene changed; or, if the hand has fingers, to where they hold something (anchors.py);
2. its tracks are smoothed, since an object rests most of the time and jumps now and then, and the tracker is fitted to
   the smoothed tracks, which the hand's position no longer disturbs; again and again;
3. scale and origin come from where the hand is while the object moves;
4. a second, smaller network learns how far the tracker is from its smoothed tracks: a hand may hide the object.

Legend: N rows of the table, O objects, M encoder tokens, F their width, Q place dim, B rows per step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from torch import Tensor, nn

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.errors import DataError
from worldmodel.projector import DOUBT, PLACE_UNIT, CompactProjector, PlaceTracker
from worldmodel.training.anchors import Anchors
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.frames import TrackSettings, fit_part, frame_loss, place_criterion, seen_in, track

Array = NDArray[Any]

QUIET, LOUD = 0.7, 0.95  # quantiles of the scene's change between which a change counts by degrees
SPAN = 8  # decisions between the two frames of a pair
MOVED = 0.06  # of the tracks' spread: a longer step is a jump rather than noise
SWEEPS = 15  # of the re-weighted smoothing
HOLD = 0.1  # heavy: while the tracker is fitted, noise does more harm than lag
GENTLE = 0.01  # the same for the final tracks, which must not lag behind a push
GRIPPED = 10.0  # precision of a place that the hand holds, beside 1 of one that is seen
REACH, ALONE = 0.13, 100.0  # [m] beyond which a hand moves nothing, and the weight of a link while it is that far


def within(table: Table) -> Array:
    """Which rows are followed by a row of the same episode: bool [N]."""
    same: Array = np.append(table.episode[1:] == table.episode[:-1], False)
    return same


def touched(table: Table, scene: Tensor) -> Array:
    """How surely the scene changed in the decision that leaves each row, 0 to 1: scene latents [N,1,D] -> [N]."""
    inside = within(table)
    change = np.zeros(len(table))
    change[:-1] = (scene[1:] - scene[:-1]).flatten(1).square().sum(dim=1).numpy()
    low, high = np.quantile(change[inside], [QUIET, LOUD])
    sure: Array = np.clip((change - low) / max(high - low, 1e-9), 0.0, 1.0) * inside
    return sure


def touched_each(table: Table, scene: Tensor, objects: int) -> Array:
    """The same of each object, the one the row's episode is about: scene latents [N,1,D] -> [N,O].

    Raises DataError where the logs are not of as many tasks as there are objects.
    """
    sure: Array = touched(table, scene)[:, None] * subjects(table, objects)
    return sure


def subjects(table: Table, objects: int) -> Array:
    """Which object the episode of a row is about: bool [N,O].

    Raises DataError where the logs are not of as many tasks as there are objects.
    """
    if objects == 1:
        return np.ones((len(table), 1), bool)
    task = np.zeros(len(table)) if table.task is None else table.task
    if len(np.unique(task)) != objects:
        got = f"{len(np.unique(task))}: give the logs one task for each object, or set predictor.objects"
        raise DataError(f"expected logs of {objects} tasks, each about one of the objects, got {got}")
    found: Array = task[:, None] == np.arange(objects)
    return found


def smooth(
    tracks: Array,
    precision: Array,
    inside: Array,
    apart: Callable[[Array], Array] | None = None,
    hold: float = HOLD,
) -> Array:
    """Tracks [N,Q] of things that rest or jump, seen more or less precisely [N]; nothing links rows across episodes.

    A random walk with heavy-tailed steps (Geman and McClure 1987), by re-weighted least squares.
    inside: bool [N], see `within`. apart: the hand's distance [m] from tracks [N,Q]; nothing moves by itself.
    hold: weight of a link for a step of one unit squared, beside 1 for a frame.
    """
    small = (MOVED * float(tracks.std())) ** 2 + 1e-12
    links = np.where(inside, 10.0, 0.0)
    found = tracks.astype(np.float64)
    for _ in range(SWEEPS):
        banded = np.zeros((2, len(tracks)))
        banded[1] = precision + links
        banded[1, 1:] += links[:-1]
        banded[0, 1:] = -links[:-1]
        found = solveh_banded(banded, tracks * precision[:, None].astype(np.float64))
        steps = np.zeros(len(tracks))
        steps[:-1] = np.square(found[1:] - found[:-1]).sum(axis=1)
        links = hold / (steps + small)
        if apart is not None:
            alone = apart(found) > REACH
            links[:-1] = np.where(alone[:-1] & alone[1:], ALONE, links[:-1])
        links = np.where(inside, links, 0.0)
    return found.astype(np.float32)


def precisions(doubt: Array) -> Array:
    """How much each frame counts, from its log variance [N,...]: 1 in the middle, next to nothing where hidden."""
    share: Array = np.exp(np.clip(np.median(doubt, axis=0) - doubt, -6.0, 1.0)).astype(np.float64)
    return share


def fit_tracker(
    tracker: PlaceTracker,
    table: Table,
    features: Rows,
    scene: Tensor,
    settings: TrackSettings,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    known: Anchors | None = None,
) -> Tensor:
    """Train in place on features [N,M,F] and scene latents [N,1,D]; returns the objects' smoothed tracks [N,O,Q].

    table: whose proprioception is the hand's position alone. known: where a grip says that objects are. Resumes after
    the newest finished fit in `folder`. Raises DataError where the logs do not tell the objects apart.
    """
    training = table.window_starts(1, table.split()[0])
    sure, each = touched_each(table, scene, tracker.objects), (tracker.objects, tracker.place_dim)
    tracker.to(device).train()
    idle = torch.optim.AdamW(tracker.parameters(), lr=0.0)
    state = load_checkpoint(folder, {"tracker": tracker}, idle)
    last = settings.rounds + 1
    for stage in range(0 if state is None else int(state["step"]), last + 1):
        part: nn.Module = tracker.body
        if stage == 0 and known is not None:
            loss = _anchored_loss(tracker, features, known, training, settings, device)
        elif stage == 0:
            loss = _displacement_loss(tracker, table, features, sure, settings, device)
        elif stage < last:
            seen = track(tracker.body, features, device).reshape(-1, *each)
            tracks = _smooth_each(table, *_told(seen, np.ones(seen.shape[:2]), known))
            wanted = torch.from_numpy(tracks.reshape(len(seen), -1)).to(device)
            _start_anew(tracker.body, settings.seed + stage)
            loss = frame_loss(part, features, wanted, place_criterion, training, settings, device)
        else:
            part, seen = tracker.doubts, track(tracker.body, features, device).reshape(-1, *each)
            seen, tracks = _tracks(tracker, table, seen, np.ones(seen.shape[:2]), known)
            wanted = torch.from_numpy(seen - tracks).to(device)
            loss = frame_loss(part, features, wanted, _doubt_criterion, training, settings, device)
        name, first = f"track {stage}/{last}", stage * settings.steps
        optimizer = fit_part(part, loss, settings, stage, name, report, first)
        save_checkpoint(folder, stage + 1, {"tracker": tracker}, optimizer, {})
    tracker.eval()
    seen = track(tracker.body, features, device).reshape(-1, *each)
    doubt = np.clip(track(tracker.doubts, features, device), *DOUBT)
    return torch.from_numpy(_tracks(tracker, table, seen, precisions(doubt), known)[1])


def _start_anew(body: nn.Module, seed: int) -> None:
    """Forget everything: what a tracker wrongly reads from the hand would otherwise survive in its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in body.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, CompactProjector):
                nn.init.zeros_(module.place)


def _smooth_each(table: Table, seen: Array, precision: Array, hold: float = HOLD, hand: Array | None = None) -> Array:
    """`smooth` of each object's tracks [N,O,Q], seen with precision [N,O]. hand: see `_apart`, if tracks are places."""
    inside, found = within(table), np.empty_like(seen)
    for index in range(seen.shape[1]):
        apart = None if hand is None else partial(_apart, hand)
        found[:, index] = smooth(seen[:, index], precision[:, index], inside, apart, hold)
    return found


def _apart(hand: Array, tracks: Array) -> Array:
    """How far hands [N,C] [m] are from tracks [N,Q], which are at 0 along the further coordinates: [N] [m]."""
    places = np.pad(PLACE_UNIT * tracks, ((0, 0), (0, hand.shape[1] - tracks.shape[1])))
    distance: Array = np.linalg.norm(hand - places, axis=1)
    return distance


def _told(seen: Array, precision: Array, known: Anchors | None) -> tuple[Array, Array]:
    """What is seen [N,O,Q] with precision [N,O], but for what is held: that is where the hand is, and surely so."""
    if known is None:
        return seen, precision
    return np.where(known.held[..., None], known.places, seen), np.where(known.held, GRIPPED, precision)


def _tracks(
    tracker: PlaceTracker, table: Table, seen: Array, precision: Array, known: Anchors | None
) -> tuple[Array, Array]:
    """What is seen [N,O,Q], and its smoothed tracks, in the hand's frame, which the tracker is given on the way."""
    if known is not None:  # its frame is the hand's from the beginning
        return seen, _smooth_each(table, *_told(seen, precision, known), GENTLE, table.proprio)
    tracks = _smooth_each(table, seen, precision)
    for _ in range(2):
        frames = [_frame(tracker, table, tracks[:, index]) for index in range(tracker.objects)]
        turn, shift = (np.stack(parts) for parts in zip(*frames, strict=True))
        tracker.transform(torch.from_numpy(turn), torch.from_numpy(shift))
        seen = (np.einsum("noq,oqr->nor", seen, turn) + shift).astype(np.float32)
        hand = table.proprio - tracker.origin.cpu().numpy()[: table.proprio.shape[1]]
        tracks = _smooth_each(table, seen, precision, GENTLE, hand)
    return seen, tracks


def _anchored_loss(
    tracker: PlaceTracker,
    features: Rows,
    known: Anchors,
    training: Array,
    settings: TrackSettings,
    device: torch.device,
) -> Callable[[np.random.Generator], Tensor]:
    """Frames of which the grip knows something; as many with the object in the hand as with an empty hand."""
    wanted, counts = (torch.from_numpy(part).to(device) for part in (known.places, known.known))
    gripped = np.asarray(known.held.any(axis=1))
    held = training[gripped[training]]
    lying = training[(known.known.any(axis=1) & ~gripped)[training]]
    half = settings.batch_size // 2
    drawn = [(rows, half if len(held) and len(lying) else 2 * half) for rows in (held, lying) if len(rows)]

    def loss(rng: np.random.Generator) -> Tensor:
        picked = np.sort(np.concatenate([rng.choice(rows, count) for rows, count in drawn]))
        rows = torch.from_numpy(picked)
        places = seen_in(tracker.body, features, picked[:, None], device).reshape(len(picked), *wanted.shape[1:])
        return place_criterion(places[counts[rows]], wanted[rows][counts[rows]])

    return loss


def _displacement_loss(
    tracker: PlaceTracker, table: Table, features: Rows, sure: Array, settings: TrackSettings, device: torch.device
) -> Callable[[np.random.Generator], Tensor]:
    """Pairs of frames, those between which something happened more often; sure: [N,O], see `touched_each`."""
    starts = table.window_starts(SPAN + 1, table.split()[0])
    hand = table.proprio[:, : tracker.place_dim].astype(np.float64) / PLACE_UNIT
    steps = np.zeros((len(hand) + 1, *sure.shape[1:], tracker.place_dim))
    steps[1:-1] = (hand[1:] - hand[:-1])[:, None] * sure[:-1, :, None]
    path = np.cumsum(steps, axis=0).reshape(len(steps), -1)
    wanted = torch.from_numpy((path[starts + SPAN] - path[starts]).astype(np.float32)).to(device)
    total = np.concatenate([[0.0], np.cumsum(sure.sum(axis=1))])
    shares = np.cumsum(0.3 + (total[starts + SPAN] - total[starts] > 0))
    shares /= shares[-1]

    def loss(rng: np.random.Generator) -> Tensor:
        picked = np.searchsorted(shares, rng.random(settings.batch_size // 2)).clip(0, len(starts) - 1)
        places = seen_in(tracker.body, features, starts[picked][:, None] + np.array([0, SPAN]), device)
        return F.smooth_l1_loss(places[:, 1] - places[:, 0], wanted[torch.from_numpy(picked)], beta=0.3)

    return loss


def _doubt_criterion(doubt: Tensor, error: Tensor) -> Tensor:
    """Negative log likelihood of errors [B,O,Q] under Gaussians of log variance [B,O] (Nix and Weigend 1994)."""
    doubt = doubt.clamp(*DOUBT)
    return 0.5 * (error.square().mean(dim=-1) * (-doubt).exp() + doubt).mean()


def _frame(tracker: PlaceTracker, table: Table, tracks: Array) -> tuple[Array, Array]:
    """The affine map turn [Q,Q], shift [Q] of an object's tracks [N,Q] to the hand's place, in units of PLACE_UNIT.

    By least squares over the decisions that move the object; the tracker takes the height of the hand there.
    """
    dims, step = tracker.place_dim, np.zeros(len(tracks))
    step[:-1] = np.linalg.norm(tracks[1:] - tracks[:-1], axis=1)
    moving = np.flatnonzero(within(table) & (step > MOVED * tracks.std()))
    if len(moving) <= 10 * dims:
        return np.eye(dims, dtype=np.float32), np.zeros(dims, np.float32)
    hand = 0.5 * (table.proprio[moving] + table.proprio[moving + 1])
    tracker.origin[dims : hand.shape[1]] = torch.from_numpy(hand[:, dims:].mean(axis=0))
    known = np.concatenate([tracks[moving], np.ones((len(moving), 1))], axis=1)
    solution = np.linalg.lstsq(known, hand[:, :dims] / PLACE_UNIT, rcond=None)[0].astype(np.float32)
    return solution[:-1], solution[-1]
