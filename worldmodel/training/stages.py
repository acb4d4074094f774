"""The stages of training, in their order: what changes besides the arm, where object and hand are, how objects move."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.training.anchors import Anchors, anchors, logged
from worldmodel.training.distributed import from_first, rank
from worldmodel.training.fit import TrainSettings, fit, fit_statistics
from worldmodel.training.folder import CHECKPOINTS, checkpoints_at
from worldmodel.training.frames import TrackSettings, fit_pose
from worldmodel.training.losses import Weights
from worldmodel.training.metrics import Report, recorder, require_tensorboard
from worldmodel.training.motion import fit_motion
from worldmodel.training.proposals import BATCH as PROPOSAL_BATCH
from worldmodel.training.proposals import fit_proposer
from worldmodel.training.refine import refine
from worldmodel.training.time_to_go import fit_time_to_go
from worldmodel.training.tracking import SPAN, fit_tracker
from worldmodel.training.validate import latents

REFINE_BATCH, REFINE_WINDOW = 256, 8


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """What the stages of every model share. ema: decay of the weights' average, 0 for none. tensorboard: its files.

    pose_steps: of the fits of the pose's reader and of the motion; None: as many as of the tracker's.

    Raises ConfigError where tensorboard is wanted and not installed.
    """

    joint: TrainSettings
    tracking: TrackSettings
    ema: float = 0.0
    pose_steps: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.tensorboard:
            require_tensorboard()

    @property
    def posing(self) -> TrackSettings:
        """Those of the fits of the pose's reader and of the motion."""
        if self.pose_steps is None:
            return self.tracking
        return dataclasses.replace(self.tracking, steps=self.pose_steps)


@dataclass(frozen=True, kw_only=True)
class Stages(Fitting):
    """The stages of the compact model. propose_steps: of the fit of what the logs would do, if the model proposes.

    time_steps: of that of the time to go, if the model tells it.
    """

    refine_steps: int
    propose_steps: int
    time_steps: int
    weights: Weights

    @property
    def batches(self) -> tuple[int, ...]:
        """The sizes of all batches that several processes share."""
        return self.joint.batch_size, REFINE_BATCH, PROPOSAL_BATCH

    @property
    def least_frames(self) -> int:
        """Of a training episode, for each of the stages."""
        return max(self.joint.window, SPAN, REFINE_WINDOW) + 1

    def sizes(self, predictor: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """The predictor's settings for this data."""
        return {**predictor, "place_dim": min(predictor["place_dim"], table.proprio.shape[1])}

    def identity(self, sizes: Mapping[str, Any], encoder_sha256: str, data_sha256: str) -> dict[str, Any]:
        """What makes a run another run."""
        further: dict[str, Any] = {"ema": self.ema} if self.ema else {}
        if self.pose_steps is not None:
            further["pose_steps"] = self.pose_steps
        if sizes.get("proposal_steps"):
            further["propose_steps"] = self.propose_steps
        if sizes.get("time_to_go"):
            further["time_steps"] = self.time_steps
        return {
            "settings": {**dataclasses.asdict(self.joint), "refine_steps": self.refine_steps, **further},
            "tracking": dataclasses.asdict(self.tracking),
            "predictor": dict(sizes),
            "objective": dataclasses.asdict(self.weights),
            "encoder_sha256": encoder_sha256,
            "data_sha256": data_sha256,
        }


def begin_stage(folder: Path, name: str, steps: int = 1, *, tensorboard: bool) -> tuple[Path, Report]:
    """The folder of a stage's checkpoints, and where its numbers go; steps: of the optimiser per checkpoint."""
    place = folder / CHECKPOINTS / name
    return place, recorder(folder, name, checkpoints_at(place) * steps, tensorboard)


def _known_places(config: ModelConfig, table: Table, tracking: TrackSettings) -> tuple[Anchors | None, TrackSettings]:
    """Where objects are known to be, if anywhere, and the tracker's settings: with labels nothing is repeated."""
    if tracking.places == "logged":
        return logged(table, config.place_dim, config.objects), dataclasses.replace(tracking, rounds=0)
    positions = config.proprio_dim if config.position_dim is None else config.position_dim
    return anchors(table, positions, config.place_dim, config.objects), tracking


def run_stages(
    model: WorldModel, table: Table, features: Rows, stages: Stages, folder: Path, device: torch.device
) -> None:
    """Train in place, each stage resuming from its newest checkpoint; the model ends on the CPU.

    table: with actions in the model's units. features: normalised, [N,M,F].
    """
    joint, tracking = stages.joint, stages.tracking
    begin = partial(begin_stage, folder, tensorboard=stages.tensorboard)
    fit_statistics(model, table, table.split()[0])
    if model.config.motion_hidden:
        if rank() == 0:
            place, report = begin("motion", stages.posing.steps)
            fit_motion(model, table, stages.posing, REFINE_WINDOW, place, device, report)
        from_first(model.members.state_dict().values(), device)
    place, report = begin("joint")
    fit(model, table, features, joint, stages.weights, place, device, report, stages.ema)
    model.to("cpu")
    places = torch.empty(len(table), model.config.objects, model.config.place_dim)
    if rank() == 0:
        scene = model.scene(latents(model, table, features, np.arange(len(table))))
        place, report = begin("track", tracking.steps)
        hands = dataclasses.replace(table, proprio=table.proprio[:, : model.config.position_dim])
        known, tracking = _known_places(model.config, table, tracking)
        places = fit_tracker(model.tracker, hands, features, scene, tracking, place, device, report, known)
        place, report = begin("pose", stages.posing.steps)
        fit_pose(model.reader, table, features, stages.posing, place, device, report)
        model.to("cpu")
    from_first([*model.tracker.state_dict().values(), *model.reader.state_dict().values(), places], device)
    place, report = begin("refine")
    refine(
        model,
        table,
        places,
        steps=stages.refine_steps,
        batch_size=REFINE_BATCH,
        learning_rate=joint.learning_rate,
        window=REFINE_WINDOW,
        seed=joint.seed,
        folder=place,
        device=device,
        report=report,
        ema=stages.ema,
    )
    _fit_read_outs(model, table, features, places, stages, begin, device)
    model.to("cpu")


def _fit_read_outs(
    model: WorldModel,
    table: Table,
    features: Rows,
    places: Tensor,
    stages: Stages,
    begin: Callable[..., tuple[Path, Report]],
    device: torch.device,
) -> None:
    """What the logs would do, and how long they take to do it, if the model says so. places: tracks [N,O,Q]."""
    if model.proposer is not None:
        place, report = begin("proposals")
        fit_proposer(
            model.proposer,
            table,
            features,
            model.config.normalise(torch.zeros(model.config.action_dim)).clamp(-1.0, 1.0).numpy(),
            steps=stages.propose_steps,
            learning_rate=stages.joint.learning_rate,
            seed=stages.joint.seed,
            folder=place,
            device=device,
            report=report,
        )
    if model.time_to_go is not None:
        if rank() == 0:
            place, report = begin("time", stages.time_steps)
            settings = dataclasses.replace(stages.tracking, steps=stages.time_steps)
            model.to("cpu")
            fit_time_to_go(model.time_to_go, table, _things(model, table, places), settings, place, device, report)
        from_first(model.time_to_go.state_dict().values(), device)


def _things(model: WorldModel, table: Table, places: Tensor) -> Tensor:
    """Where what is timed was, at every row: the robot, or the objects of these tracks [N,O,Q]: [N,O,C] [m]."""
    if model.config.time_to_go == "robot":
        return model.position(torch.from_numpy(table.proprio))[:, None]
    return model.locate(places.cpu()).detach()
