"""For comparison: a training loop that saves as most do, killed at random as the campaign kills this project's."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

from tests.faults.harness import Child, Lab, run

STEPS, EVERY = 60, 3


def loop(file: Path) -> None:
    """Thirty lines that are found everywhere: torch.save in place, weights, optimiser and step, no random state."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = 0
    if file.exists():
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    data = torch.randn(1024, 64, generator=torch.Generator().manual_seed(1))
    for step in range(first, STEPS):
        batch = data[torch.randint(0, len(data), (256,))]
        loss = (model(batch) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % EVERY == 0:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, file)


def weights(file: Path) -> Any:
    import torch

    return torch.cat([value.flatten() for value in torch.load(file, weights_only=True)["model"].values()])


def compare(lab: Lab, kills: int) -> str:
    """Kill it `kills` times at random, run it again, and count what came of it."""
    import torch

    rng, whole = random.Random("plain"), lab.fresh("whole")
    length = run(lambda: loop(whole)).seconds
    lost = other = exact = 0
    while lost + other + exact < kills:
        file = lab.fresh("plain")
        if Child(lambda file=file: loop(file)).wait_or_kill(rng.uniform(0.0, length)) != -signal.SIGKILL:
            continue
        if run(lambda file=file: loop(file)).status:
            lost += 1
        elif torch.equal(weights(file), weights(whole)):
            exact += 1
        else:
            other += 1
    return f"| torch.save in place, no random state | {kills} | {lost} | {other} | {exact} |"
