"""Faults 12, 32, 34 and 35: training that goes wrong in the numbers."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import toy
from tests.faults.data_files import copy, use
from tests.faults.harness import Fault, Lab, Tally

STEPS = 12


def scene(lab: Lab) -> tuple[Any, Any]:
    """A table and random features for it."""
    import numpy as np

    table = use(copy(lab)).table
    features = np.random.default_rng(1).normal(size=(len(table), 16, 24)).astype(np.float16)
    return table, features


def fresh_model(lab: Lab, table: Any, seed: int = 0) -> Any:
    import torch

    from worldmodel.encoders import load_encoder
    from worldmodel.model import ModelConfig, WorldModel
    from worldmodel.training.fit import fit_statistics

    torch.manual_seed(seed)
    config = ModelConfig(table.actions.shape[1], table.proprio.shape[1], 2, 4, 2, 4, 16, 2, 16, 1)
    model = WorldModel(load_encoder(toy.encoder(lab)), config)
    fit_statistics(model, table, table.split()[0])
    return model


def fit(
    model: Any, table: Any, features: Any, folder: Path, report: Any = lambda values: None, steps: int = STEPS
) -> None:
    import torch

    from worldmodel.training import fit as module
    from worldmodel.training.losses import Weights

    settings = module.TrainSettings(steps=steps, batch_size=4, learning_rate=1e-3, seed=0, window=3, checkpoint_every=4)
    module.fit(model, table, features, settings, Weights(), folder, torch.device("cpu"), report)


def weights(model: Any) -> list[Any]:
    return [value.clone() for part in ("projector", "inverse") for value in getattr(model, part).state_dict().values()]


def poisoned_loss(tally: Tally, lab: Lab) -> None:
    """A batch of NaN at some step: no optimiser step is made with it, the last good checkpoint stays."""
    import torch

    from worldmodel.training import fit as module

    table, features = scene(lab)
    read, step = module.read_windows, torch.optim.AdamW.step
    for value in (torch.nan, torch.inf):
        for at in (0, 5, STEPS - 1):
            model, folder = fresh_model(lab, table), lab.fresh("joint")
            calls, steps = [0], [0]

            def spoiled(*arguments: Any, calls: Any = calls, at: int = at, value: float = value) -> Any:
                calls[0] += 1
                batch = read(*arguments)
                return (batch[0] * value, *batch[1:]) if calls[0] == at + 1 else batch

            def counted(self: Any, *arguments: Any, steps: Any = steps, **options: Any) -> Any:
                steps[0] += 1
                return step(self, *arguments, **options)

            module.read_windows, torch.optim.AdamW.step = spoiled, counted  # type: ignore[method-assign]
            call = partial(fit, model, table, features, folder)
            tally.refused(f"loss of {value} at step {at}", call, "finite loss", f"step {at}")
            module.read_windows, torch.optim.AdamW.step = read, step  # type: ignore[method-assign]
            finite = all(bool(torch.isfinite(v).all()) for v in model.parameters())
            tally.holds(finite and steps[0] == at, f"{steps[0]} steps were made before step {at}, finite {finite}")
            kept = sorted(path.name for path in folder.glob("step-*"))
            tally.holds(kept == [f"step-{n:08d}" for n in (4, 8) if n <= at][-2:], f"kept {kept}")


def poisoned_gradient(tally: Tally, lab: Lab) -> None:
    """A gradient of NaN under a finite loss: no optimiser step is made with it, the last good checkpoint stays."""
    import torch

    table, features = scene(lab)
    step = torch.optim.AdamW.step
    for at in (0, 5, STEPS - 1):
        model, folder, calls, steps = fresh_model(lab, table), lab.fresh("joint"), [0], [0]
        parameter = next(model.inverse.parameters())

        def spoiled(gradient: Any, calls: Any = calls, at: int = at) -> Any:
            calls[0] += 1
            return gradient * torch.nan if calls[0] == at + 1 else gradient

        def counted(self: Any, *arguments: Any, steps: Any = steps, **options: Any) -> Any:
            steps[0] += 1
            return step(self, *arguments, **options)

        parameter.register_hook(spoiled)
        torch.optim.AdamW.step = counted  # type: ignore[method-assign]
        call = partial(fit, model, table, features, folder)
        tally.refused(f"gradient of NaN at step {at}", call, "finite norm of the gradient", f"step {at}")
        torch.optim.AdamW.step = step  # type: ignore[method-assign]
        good = steps[0] == at and all(bool(torch.isfinite(value).all()) for value in model.parameters())
        tally.holds(good, f"{steps[0]} steps were made before step {at}, or weights are not finite")
        kept = sorted(path.name for path in folder.glob("step-*"))
        tally.holds(kept == [f"step-{n:08d}" for n in (4, 8) if n <= at][-2:], f"kept {kept}")


def frozen_encoder(tally: Tally, lab: Lab) -> None:
    """The encoder neither learns nor leaves inference mode; one that changed in training is an error."""
    from worldmodel.training import run as module

    table, features = scene(lab)
    model = fresh_model(lab, table)
    before = model.encoder.sha256()
    model.train()
    fit(model, table, features, lab.fresh("joint"))
    tally.holds(model.encoder.sha256() == before, "the encoder changed")
    tally.holds(not model.encoder.training, "the encoder is in training mode")
    tally.holds(all(p.grad is None and not p.requires_grad for p in model.encoder.parameters()), "it has gradients")
    stages = module.run_stages

    def meddling(*arguments: Any) -> None:
        stages(*arguments)
        next(arguments[0].encoder.parameters()).data.add_(1e-3)

    module.run_stages = meddling
    words = toy.words("train", lab, lab.fresh("out"))
    from worldmodel.cli import run

    tally.refused("an encoder that learned", lambda: run(words, []), "expected a frozen encoder")
    module.run_stages = stages


def collapsed(tally: Tally, lab: Lab) -> None:
    """An encoder that says the same of every picture, or next to nothing."""
    import torch

    from worldmodel.encoders import load_encoder
    from worldmodel.pretrain.run import complain, measure

    table = use(copy(lab)).table
    encoder = load_encoder(toy.encoder(lab))
    healthy = measure(encoder, table)
    for note in ("constant", "nearly constant", "one direction"):
        forward = encoder.forward

        def dead(frames: Any, note: str = note, forward: Any = forward) -> Any:
            found = forward(frames)
            if note == "one direction":
                return found.mean(dim=(-1, -2), keepdim=True).expand_as(found).contiguous()
            return torch.zeros_like(found) + (found * 1e-6 if note != "constant" else 0.0)

        encoder.forward = dead
        tally.refused(note, lambda: complain(measure(encoder, table), healthy), "expected")
        encoder.forward = forward


def scrambled(tally: Tally, lab: Lab) -> None:
    """No random state is kept: draws are functions of seed and step. Resumed under any other, training is the same."""
    import random

    import numpy as np
    import torch

    from worldmodel.training.schedule import step_generator, step_rng

    for step in (0, 1, 10**6):
        one, two = (step_rng(7, step).random(5) for _ in range(2))
        other = step_rng(8, step).random(5)
        tally.holds(bool((one == two).all()) and not bool((one == other).any()), f"draws of step {step}")
        tally.holds(
            torch.equal(*(torch.rand(5, generator=step_generator(7, step)) for _ in range(2))), f"torch, {step}"
        )
    table, features = scene(lab)
    whole = fresh_model(lab, table)
    fit(whole, table, features, lab.fresh("whole"))

    for attempt in range(3):
        folder, resumed = lab.fresh("joint"), fresh_model(lab, table)
        stop_after(resumed, table, features, folder, 5)
        random.seed(attempt)
        np.random.seed(attempt)
        resumed = fresh_model(lab, table, seed=0)
        torch.manual_seed(100 + attempt)
        before = torch.get_rng_state()
        fit(resumed, table, features, folder)
        tally.count("detected" if torch.equal(before, torch.get_rng_state()) else "harmless")
        same = all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
        tally.resume(same, f"resumed under random state {attempt}")


class StopError(Exception):
    """What a kill is to a process, an exception is to a function."""


def stop_after(model: Any, table: Any, features: Any, folder: Path, step: int) -> None:
    """Train until the checkpoint after `step`, and no further."""
    import torch

    from worldmodel.training import fit as module

    read, calls = module.read_windows, [0]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] > step:
            raise StopError
        return read(*arguments)

    module.read_windows = counted
    with contextlib.suppress(StopError):
        fit(model, table, features, folder)
    module.read_windows = read
    assert torch.is_grad_enabled()


FAULTS = (
    Fault(12, "random state lost or of another process", "none is kept: draws follow from seed and step", scrambled,
          guards=("rng",)),
    Fault(32, "loss that is not finite at some step", "no optimiser step; the last checkpoint stays", poisoned_loss),
    Fault(32, "gradient that is not finite under a finite loss", "no optimiser step; the last checkpoint stays",
          poisoned_gradient),
    Fault(34, "encoder that learns or leaves inference mode", "an error", frozen_encoder),
    Fault(35, "collapsed encoder", "an error with spread and rank", collapsed),
)  # fmt: skip
