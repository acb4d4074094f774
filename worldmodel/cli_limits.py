"""What the value of an option may be, by its whole name or, where the same word means the same everywhere, its last."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """What a value may be, beyond being of the kind of its default. `kind` is needed where the default is null."""

    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    kind: type | None = None


LIMITS = {
    "camera": Limit(kind=str),
    "frame_skip": Limit(low=1, kind=int),
    "agent": Limit(
        choices=(
            *("planning", "oracle", "random", "hold", "behaviour_cloning", "inverse_dynamics", "pixel_prediction"),
            *("dreamerv3", "dreamerv3_planning"),
        )
    ),
    "shift": Limit(choices=("lighting", "camera", "colour", "distractor"), kind=str),
    "sees": Limit(choices=("features", "pixels")),
    "reward": Limit(choices=("success", "distance")),
    "compare": Limit(choices=("posterior", "decoded")),
    "size": Limit(choices=("1M", "12M", "25M", "50M", "100M", "200M", "400M")),
    "length": Limit(low=2),
    "span": Limit(low=1, kind=int),
    "warmup": Limit(low=0),
    "goal_after": Limit(low=1, kind=int),
    "logs": Limit(low=2),
    "log_steps": Limit(low=2),
    "log_seed": Limit(low=0),
    "cluster": Limit(choices=("ray",), kind=str),
    "agents": Limit(kind=list),
    "configurations_tried": Limit(low=1),
    "device": Limit(choices=("auto", "cpu", "cuda", "mps")),
    "episodes": Limit(low=1),
    "seed": Limit(low=0),
    "repeats": Limit(low=1),
    "rows_cached": Limit(low=1),
    "memory": Limit(low=1e-3),
    "parallel": Limit(low=1),
    "threads": Limit(low=1, kind=int),
    "workers": Limit(low=1),
    "steps": Limit(low=0),
    "pictures": Limit(low=2),
    "looks": Limit(low=1),
    "pose_steps": Limit(low=1, kind=int),
    "batch_size": Limit(low=1),
    "ema": Limit(low=0.0, high=0.99999),
    "validate_task": Limit(kind=str),
    "validate_episodes": Limit(low=1),
    "learning_rate": Limit(low=1e-9, high=1.0, kind=float),
    "randomize_visuals": Limit(low=0.0, high=1.0),
    "window": Limit(low=1),
    "windows": Limit(low=5),
    "horizon": Limit(low=1, kind=int),
    "initial_std": Limit(low=1e-6, high=1e6, kind=float),
    "running_weight": Limit(low=0.0, kind=float),
    "discount": Limit(low=0.0, high=1.0, kind=float),
    "place_weight": Limit(low=0.0, kind=float),
    "approach_weight": Limit(low=0.0, kind=float),
    "proprio_weight": Limit(low=0.0, kind=float),
    "arrived_weight": Limit(low=0.0, kind=float),
    "settled_below": Limit(low=0.0, kind=float),
    "settled_within": Limit(low=0.0, kind=float),
    "pessimism": Limit(low=0.0, kind=float),
    "hold_margin": Limit(low=0.0, high=1.0, kind=float),
    "hold_noise": Limit(low=0.0, kind=float),
    "planning.rest": Limit(kind=bool),
    "belief": Limit(kind=bool),
    "oracle.rest": Limit(low=0.0),
    "patience": Limit(low=1, kind=int),
    "proposal_std": Limit(low=0.0, high=1e6, kind=float),
    "policy_candidates": Limit(kind=bool),
    "warm_start": Limit(kind=bool),
    "compile_mode": Limit(choices=("default", "reduce-overhead", "max-autotune"), kind=str),
    "keep_out": Limit(low=0.0, high=1.0),
    "workspace": Limit(kind=list),
    "speed": Limit(low=0.0, kind=float),
    "action_rate": Limit(low=0.0, kind=float),
    "margin": Limit(low=0.0),
    "weight": Limit(low=0.0),
    "time_share": Limit(low=0.0, high=1.0, kind=float),
    "way": Limit(choices=("straight", "roadmap"), kind=str),
    "distance": Limit(choices=("l1", "l2", "cosine"), kind=str),
    "select": Limit(choices=("best", "mean")),
    "label": Limit(choices=("public", "fixed")),
    "pool": Limit(low=1),
    "layout": Limit(choices=("action_after", "vjepa2_ac")),
    "kinematics": Limit(choices=("fitted", "pose")),
    "context": Limit(low=1),
    "reader_hidden": Limit(low=0),
    "loss": Limit(choices=("l1", "l2")),
    "rollout_steps": Limit(low=1),
    "rollout_weight": Limit(low=0.0),
    "chunk": Limit(low=1),
    "position_dim": Limit(low=1, kind=int),
    "motion_hidden": Limit(low=0),
    "roadmap_nodes": Limit(low=0),
    "proposal_steps": Limit(low=0),
    "objects": Limit(low=1),
    "places": Limit(choices=("touched", "logged")),
    "propose_steps": Limit(low=1),
    "time_steps": Limit(low=1),
    "time_to_go": Limit(choices=("robot", "objects"), kind=str),
    "deadline": Limit(low=1e-3, kind=float),
    "temperature": Limit(low=1e-9, kind=float),
}
