"""One protection of the product switched off, for this process and its forks: the campaign must notice each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def fsync() -> None:
    """Nothing is made durable."""
    import worldmodel.storage as storage

    storage.sync_file = storage.sync_folder = lambda path: None


def rename() -> None:
    """Files and folders are written under their own names."""
    import worldmodel.bundle as bundle
    import worldmodel.storage as storage
    import worldmodel.training.checkpoint as checkpoint

    @contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    @contextmanager
    def folder_in_place(path: Path) -> Iterator[Path]:
        path.mkdir(parents=True)
        yield path

    storage.atomic_file = in_place  # type: ignore[assignment]
    for module in (storage, bundle, checkpoint):
        module.atomic_dir = folder_in_place  # type: ignore[attr-defined]


def sha256() -> None:
    """Every file has the digest that is expected of it: of bundles, checkpoints, data sets and their caches."""
    import worldmodel.bundle as bundle
    import worldmodel.data.cache as cache
    import worldmodel.data.inspection as inspection
    import worldmodel.data.load as load
    import worldmodel.training.checkpoint as checkpoint

    class Any256(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = str.__hash__

    for module in (bundle, cache, checkpoint, load):
        module.sha256_file = lambda path: Any256("0" * 64)  # type: ignore[attr-defined]
    inspection.wrong_bytes = lambda *_: None


def rng() -> None:
    """Random numbers come from one generator of the process, as in most training code; its state dies with it."""
    import numpy as np

    import worldmodel.pretrain.fit as pretrain
    import worldmodel.training.fit as joint
    import worldmodel.training.refine as refine

    generators: dict[int, Any] = {}

    def of_the_process(seed: int, step: int) -> Any:
        return generators.setdefault(os.getpid(), np.random.default_rng(seed))

    for module in (pretrain, joint, refine):
        module.step_rng = of_the_process  # type: ignore[attr-defined]


def sampler() -> None:
    """Clips come from a shuffled pass over the data that every process begins anew."""
    import numpy as np
    import torch

    import worldmodel.pretrain.fit as pretrain

    passes: dict[int, Any] = {}

    def next_clips(table: Any, starts: Any, rng: Any, count: int, still_share: float) -> Any:
        order = passes.setdefault(os.getpid(), iter(np.random.default_rng(0).permutation(np.tile(starts, 50))))
        rows = np.array([next(order) for _ in range(count)])
        return torch.from_numpy(np.stack([table.frames[rows], table.frames[rows + 1]], axis=1))

    pretrain.draw_clips = next_clips


def rank_finite() -> None:
    """Costs are ranked as they come: torch.topk holds NaN for the largest, so that -cost elects it."""
    import torch

    import planners.record as record
    import planners.sampling as sampling
    import planners.search as search

    def rank(actions: Any, cost: Any) -> Any:
        return sampling.Ranked(actions, cost, torch.topk(-cost, cost.shape[1], dim=1).indices)

    for module in (sampling, record, search):
        module.rank_finite = rank  # type: ignore[attr-defined]


def autoreset() -> None:
    """MuJoCo may answer divergence with a fresh start."""
    import mujoco

    import envs.physics as physics

    begin = physics.Physics.__init__

    def lenient(self: Any, model: Any) -> None:
        begin(self, model)
        model.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)

    physics.Physics.__init__ = lenient  # type: ignore[method-assign]


BREAKS: dict[str, Callable[[], None]] = {
    "fsync": fsync, "rename": rename, "sha256": sha256, "rng": rng, "sampler": sampler, "rank_finite": rank_finite,
    "autoreset": autoreset,
}  # fmt: skip
