"""What one process of several does in test_several_processes.py: torchrun starts it, with a folder to write to.

The further words are those of a `train` command, which runs afterwards in the same processes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_model import ARCHITECTURE

from worldmodel import cli
from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.descent import descend
from worldmodel.training.distributed import joined, over_whole_batches, rank, share
from worldmodel.training.fit import fit_statistics, new_head, new_shaper, read_windows, reconstruction
from worldmodel.training.losses import Weights, model_losses, weighted
from worldmodel.training.proposals import fit_proposer
from worldmodel.training.refine import refine

CPU, BATCH, WINDOW = torch.device("cpu"), 8, 3


def scene() -> tuple[WorldModel, Table, np.ndarray]:
    """A model, ten episodes and their features, the same in every process."""
    rng, rows = np.random.default_rng(0), 120
    actions = rng.uniform(-1, 1, (rows, 3)).astype(np.float32)
    proprio = np.cumsum(0.05 * actions, axis=0).astype(np.float32)
    truth = np.full((rows, 3), np.nan, np.float32)
    table = Table(np.zeros((rows, 1, 1, 3), np.uint8), actions, proprio, truth, np.repeat(np.arange(10), 12))
    torch.manual_seed(0)
    config = ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1, proposal_steps=2)
    model = WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config)
    fit_statistics(model, table, table.split()[0])
    return model, table, rng.normal(size=(rows, 16, 24)).astype(np.float16)


def main(out: Path) -> None:
    """A step of the joint stage in float32, and some of the last two; the first process writes what came of them."""
    model, table, features = scene()
    target, decoder = reconstruction(model, features)
    parts = {"projector": model.projector, "shaper": new_shaper(model), "decoder": decoder, "inverse": model.inverse}
    parts["proprio_head"] = new_head(model, table)
    named = {f"{part}.{name}": weight for part, module in parts.items() for name, weight in module.named_parameters()}
    rows = np.arange(0, 12 * BATCH, 12)[:, None] + np.arange(WINDOW + 1)
    with over_whole_batches(model.projector.norm):
        batch = read_windows(table, features, share(rows))
        terms = model_losses(model, parts["shaper"], parts["proprio_head"], decoder, target, *batch, span=2)
    optimizer = torch.optim.SGD(named.values(), lr=0.0)
    loss = descend(weighted(terms, Weights()), optimizer, list(named.values()), 1e9, 0)
    found = {name: weight.grad for name, weight in named.items() if weight.grad is not None}
    found["loss"] = torch.tensor(loss)
    found["running_mean"] = model.projector.norm.running_mean
    lines: list[float] = []
    z = torch.randn(len(table), 1, 2, generator=torch.Generator().manual_seed(0))
    refine(
        model, table, z, steps=51, batch_size=BATCH, learning_rate=1e-3, window=WINDOW, seed=0, folder=out / "refine",
        device=CPU, report=lambda values: lines.append(values["refine"]), checkpoint_every=25,
    )  # fmt: skip
    found |= {f"members.{name}": weight for name, weight in model.members.state_dict().items()}
    found["refine"] = torch.tensor(lines)
    assert model.proposer is not None
    fit_proposer(
        model.proposer, table, features, np.zeros(3), steps=10, learning_rate=1e-3, seed=0, folder=out / "proposals",
        device=CPU, report=lambda values: None, checkpoint_every=5,
    )  # fmt: skip
    found |= {f"proposer.{name}": weight for name, weight in model.proposer.state_dict().items()}
    if rank() == 0:
        save_file({name: value.detach().contiguous() for name, value in found.items()}, out / "found.safetensors")


if __name__ == "__main__":
    with joined(CPU):
        main(Path(sys.argv[1]))
        sys.exit(cli.main(sys.argv[2:]))
