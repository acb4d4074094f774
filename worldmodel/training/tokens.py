"""Trains the multi-token predictor on cached features: teacher forcing, and rollouts of a few steps.

Assran et al. 2025, arXiv 2506.09985, section 3.1. Legend: N rows of the table or latent tokens, B windows per step, T
frames of a window, D token width, A action dim, P proprioception dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.errors import ConfigError
from worldmodel.precision import mixed_precision
from worldmodel.tokens import TokenModel
from worldmodel.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodel.training.descent import Average, descend
from worldmodel.training.distributed import averaged, from_first, rank, share
from worldmodel.training.fit import TrainSettings, read_windows
from worldmodel.training.frames import fit_pose
from worldmodel.training.schedule import set_learning_rate, step_rng, warmup_cosine
from worldmodel.training.stages import Fitting, begin_stage

Array = NDArray[Any]

WEIGHT_DECAY, BETAS = 0.04, (0.9, 0.999)  # those of V-JEPA 2-AC
MEASURED, AT_ONCE = 256, 16  # windows of the validation, and how many of them together


@dataclass(frozen=True)
class TokenLoss:
    """loss: mean absolute (l1) or mean squared (l2) error of layer-normalised tokens.

    rollout_steps: frames imagined from the first of a window, each from those before it; 1: teacher forcing only.
    rollout_weight: of their error, beside 1 for teacher forcing. detach: no gradients through a frame that is fed back.
    """

    loss: Literal["l1", "l2"] = "l1"
    rollout_steps: int = 2
    rollout_weight: float = 1.0
    detach: bool = False

    def error(self, predicted: Tensor, true: Tensor) -> Tensor:
        """The mean over everything."""
        difference = predicted.float() - true
        return difference.abs().mean() if self.loss == "l1" else difference.square().mean()


@dataclass(frozen=True, kw_only=True)
class TokenStages(Fitting):
    """The stages of a token model: its predictor, and the reader of poses."""

    losses: TokenLoss

    @property
    def batches(self) -> tuple[int, ...]:
        """The sizes of all batches that several processes share."""
        return (self.joint.batch_size,)

    @property
    def least_frames(self) -> int:
        """Of a training episode."""
        return self.joint.window + 1

    def sizes(self, predictor: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """The predictor's settings for this data. Raises ConfigError where they do not fit those of the training."""
        window, context, steps = self.joint.window, predictor["context"], self.losses.rollout_steps
        if not steps <= window <= context:
            raise ConfigError(
                f"expected rollout_steps <= window <= predictor.context, got {steps}, {window} and {context}: "
                "lower the first or raise the last"
            )
        return dict(predictor)

    def identity(self, sizes: Mapping[str, Any], encoder_sha256: str, data_sha256: str) -> dict[str, Any]:
        """What makes a run another run."""
        return {
            "settings": {**dataclasses.asdict(self.joint), "ema": self.ema, "pose_steps": self.posing.steps},
            "predictor": dict(sizes),
            "objective": dataclasses.asdict(self.losses),
            "encoder_sha256": encoder_sha256,
            "data_sha256": data_sha256,
        }


def run_token_stages(
    model: TokenModel, table: Table, features: Rows, stages: TokenStages, folder: Path, device: torch.device
) -> None:
    """Train in place, each stage resuming from its newest checkpoint; the model ends on the device.

    table: with actions in the model's units. features: layer-normalised, [N,M,F].
    """
    begin = partial(begin_stage, folder, tensorboard=stages.tensorboard)
    fit_state(model, table, table.split()[0])
    place, report = begin("tokens")
    fit_tokens(model, table, features, stages.joint, stages.losses, place, device, report, stages.ema)
    if model.reader is not None:
        if rank() == 0:
            place, report = begin("pose", stages.posing.steps)
            fit_pose(model.reader, table, features, stages.posing, place, device, report)
        from_first(model.reader.state_dict().values(), device)


def fit_state(model: TokenModel, table: Table, episodes: Array) -> None:
    """What is known in closed form: the statistics of the proprioception, and how actions move it."""
    rows = table.window_starts(2, episodes)
    proprio, actions = torch.from_numpy(table.proprio), torch.from_numpy(table.actions)
    model.state.fit(proprio[rows])
    if model.kinematics is not None:
        model.kinematics.fit(proprio[rows], actions[rows], proprio[rows + 1])


def token_losses(
    model: TokenModel, z: Tensor, actions: Tensor, proprio: Tensor, losses: TokenLoss
) -> dict[str, Tensor]:
    """The terms for layer-normalised tokens [B,T,N,D] of windows with actions [B,T,A] and proprio [B,T,P].

    teacher: every frame but the first, from the true ones before it. rollout: the frames after the second, imagined
    from the first alone, as when planning: proprioception follows the kinematics, too. (Step one is teacher forcing.)
    """
    state, steps = model.state(proprio), losses.rollout_steps
    predicted = model.predictor(z[:, :-1], actions[:, :-1], state[:, :-1])
    terms = {"teacher": losses.error(F.layer_norm(predicted, predicted.shape[-1:]), z[:, 1:])}
    if steps > 1:
        first = model.predictor.encode_context(z[:, :1], actions[:, :0], state[:, :1])
        path, _ = model.predictor.rollout(
            first, actions[:, None, :steps], model.advance, normalise=True, detach=losses.detach
        )
        terms["rollout"] = losses.error(path[:, 0, 1:], z[:, 2 : steps + 1])
    return terms


def fit_tokens(
    model: TokenModel,
    table: Table,
    features: Rows,
    settings: TrainSettings,
    losses: TokenLoss,
    folder: Path,
    device: torch.device,
    report: Callable[[dict[str, float]], None],
    ema: float = 0.0,
) -> None:
    """Train the predictor in place on features [N,M,F], resuming from the newest checkpoint in `folder`.

    ema: decay of the average of the weights that it takes in the end; 0 takes the last ones. Raises TrainingError for a
    loss that is not finite.
    """
    starts, window = table.window_starts(settings.window + 1, table.split()[0]), settings.window
    predictor = model.to(device).predictor.train()
    parameters = list(predictor.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=BETAS, weight_decay=WEIGHT_DECAY)
    average = Average({"predictor": predictor}, ema)
    parts = {"predictor": predictor, **average.parts}
    state = load_checkpoint(folder, parts, optimizer)
    first = 0 if state is None else int(state["step"])
    bar = tqdm(total=settings.steps, initial=first, unit="step", desc="tokens", mininterval=1.0, disable=rank() > 0)
    for step in range(first, settings.steps):
        picked = step_rng(settings.seed, step).integers(0, len(starts), settings.batch_size)
        rows = share(starts[picked][:, None] + np.arange(window + 1))
        batch = [part.to(device) for part in read_windows(table, features, rows)]
        set_learning_rate(optimizer, warmup_cosine(step, settings.steps, settings.learning_rate))
        with mixed_precision(device):
            terms = token_losses(model, batch[0], batch[1], batch[2], losses)
        loss = terms["teacher"] + (losses.rollout_weight * terms["rollout"] if "rollout" in terms else 0.0)
        value = descend(loss, optimizer, parameters, settings.clip_norm, step)
        average.update()
        bar.update()
        if step % 50 == 0:
            each = averaged(torch.stack([*terms.values()]).detach()).tolist()
            report({"step": step, "loss": value, **dict(zip(terms, each, strict=True))})
            bar.set_postfix(loss=f"{value:.4f}")
        if (step + 1) % settings.checkpoint_every == 0 and rank() == 0:
            save_checkpoint(folder, step + 1, parts, optimizer, {})
    bar.close()
    average.finish()
    predictor.eval()


@torch.no_grad()
def validate_tokens(model: TokenModel, table: Table, features: Rows, horizon: int = 8) -> dict[str, float]:
    """Errors on held-out episodes: of the tokens [mean absolute] and the pose [m] after open-loop rollouts.

    *_still_*: of saying that nothing moves. pose_now_m: of the pose that is read from a picture.
    """
    horizon = min(horizon, model.config.context)
    starts = table.window_starts(horizon + 1, table.split()[1])
    if len(starts) == 0:
        return {}
    picked = np.random.default_rng(0).choice(starts, min(MEASURED, len(starts)), replace=False)
    found: dict[str, list[Tensor]] = {}
    for part in np.array_split(picked, -(-len(picked) // AT_ONCE)):
        rows = part[:, None] + np.arange(horizon + 1)
        z, actions, proprio = (each.to(model.device()) for each in read_windows(table, features, rows))
        path, poses = model.rollout(z[:, 0], proprio[:, 0], actions[:, None, :horizon])
        errors = {
            "tokens_after_1": (path[:, 0, 0] - z[:, 1]).abs().mean(dim=(1, 2)),
            "tokens_still_1": (z[:, 0] - z[:, 1]).abs().mean(dim=(1, 2)),
            f"tokens_after_{horizon}": (path[:, 0, -1] - z[:, -1]).abs().mean(dim=(1, 2)),
            f"tokens_still_{horizon}": (z[:, 0] - z[:, -1]).abs().mean(dim=(1, 2)),
            f"pose_after_{horizon}_m": (poses[:, 0, -1] - proprio[:, -1]).norm(dim=-1),
            f"pose_still_{horizon}_m": (proprio[:, 0] - proprio[:, -1]).norm(dim=-1),
        }
        if model.reader is not None:
            errors["pose_now_m"] = (model.decode_proprio(z[:, :1])[:, 0] - proprio[:, 0]).norm(dim=-1)
        for name, each in errors.items():
            found.setdefault(name, []).append(each)
    return {name: float(torch.cat(parts).mean()) for name, parts in found.items()}
