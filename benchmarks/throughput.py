"""How fast training goes: from cached features, and the naive way, which encodes every picture again at every step.

A clip is a window of T = window + 1 pictures. All rows take turns within one run, so that a slow moment of the machine
hits them alike; a step is one of the joint stage of `worldmodel train`, on random pictures.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import worldmodel
from benchmarks.machine import machine, versions
from worldmodel.data.cache import encode_rows, load_features
from worldmodel.data.rows import Rows
from worldmodel.data.table import Table
from worldmodel.errors import ConfigError
from worldmodel.model import WorldModel
from worldmodel.precision import mixed_precision
from worldmodel.storage import new_folder, write_json
from worldmodel.training.descent import descend
from worldmodel.training.device import choose_device
from worldmodel.training.fit import fit_statistics, new_head, new_shaper, read_windows, reconstruction
from worldmodel.training.losses import Weights, model_losses, weighted

EPISODE = 64  # pictures
TARGET = 5.0  # times as fast as the naive way
# Dense bf16 [FLOP/s], by the names that CUDA gives the devices: the data sheets of NVIDIA's H100 SXM and H200.
PEAKS = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}


def throughput(
    *,
    out: str | Path,
    model: str | Path = "jaco",
    repeats: int = 20,
    batch_size: int = 96,
    window: int = 6,
    rows_cached: int = 4096,
    seed: int = 0,
    threads: int | None = None,
    device: str = "auto",
    config: str | None = None,
) -> dict[str, Any]:
    """Measure `repeats` steps of every row and write table.md and throughput.json to the new folder `out`.

    model: gives the encoder and all sizes; its weights are changed in memory only. device: "auto" takes the accelerator
    where there is one. Raises ConfigError, OutputError and BundleError.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = worldmodel.load(model)
    if not isinstance(loaded, WorldModel):
        raise ConfigError(f"expected a model that train wrote, got {loaded.name!r} in another form: name model=jaco")
    if rows_cached < 2 * EPISODE or window >= EPISODE:
        raise ConfigError(
            f"expected rows_cached >= {2 * EPISODE} and window < {EPISODE}, got {rows_cached} and {window}: "
            "raise the one or lower the other"
        )
    where, folder = choose_device(device), new_folder(Path(out))
    if config is not None:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    steps = _rows(loaded, _table(loaded, rows_cached, seed), folder, batch_size, window, seed, where)
    flop, seconds = _timed(steps, repeats, where)
    clips = {name: batch_size / statistics.median(taken) for name, taken in seconds.items()}
    rates = {name: flop[name] / statistics.median(taken) for name, taken in seconds.items()}
    peak = PEAKS.get(torch.cuda.get_device_name(where)) if where.type == "cuda" else None
    ratio = clips["training from the cache"] / clips["training, encoding in the loop"]
    measured = {
        "suite": "throughput",
        "model": {"name": loaded.name, "sha256": loaded.sha256},
        "settings": {
            "repeats": repeats, "batch_size": batch_size, "window": window, "rows_cached": rows_cached, "seed": seed,
        },
        "machine": {**machine(), "device": str(where)},
        "versions": versions(),
        "clips_per_second": clips,
        "flop_per_second": rates,
        "peak_flop_per_second": peak,
        "mfu": None if peak is None else {name: rate / peak for name, rate in rates.items()},
        "seconds": seconds,
        "peak_rss_gib": _peak_rss(),
        "target": {"what": "from the cache / naive", "limit": TARGET, "measured": ratio, "met": ratio >= TARGET},
    }  # fmt: skip
    write_json(folder / "throughput.json", measured)
    text = "\n".join(_lines(measured)) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return measured


def _timed(
    steps: Mapping[str, Callable[[int], object]], repeats: int, device: torch.device
) -> tuple[dict[str, int], dict[str, list[float]]]:
    """FLOP of one step of each kind, of its matrix products, convolutions and attention; and seconds of `repeats`."""
    flop: dict[str, int] = {}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():  # which warms up, too
        with FlopCounterMode(display=False) as counter:
            step(0)
        flop[name] = counter.get_total_flops()
    for turn in tqdm(range(1, repeats + 1), desc="throughput", unit="round"):
        for name, step in steps.items():
            started = time.perf_counter()
            step(turn)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds[name].append(time.perf_counter() - started)
    return flop, seconds


def _table(model: WorldModel, rows: int, seed: int) -> Table:
    """Random pictures, actions and poses of episodes of 64 rows."""
    rng, side, config = np.random.default_rng(seed), model.image_size, model.config
    frames = rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (rows, config.action_dim)).astype(np.float32)
    proprio = rng.uniform(-0.3, 0.3, (rows, config.proprio_dim)).astype(np.float32)
    truth = np.full((rows, 3), np.nan, np.float32)
    return Table(frames, actions, proprio, truth, np.arange(rows) // EPISODE)


def _rows(
    model: WorldModel, table: Table, folder: Path, batch_size: int, window: int, seed: int, device: torch.device
) -> dict[str, Callable[[int], object]]:
    """What is measured, by name: one step of each, given its number."""
    encoder = model.encoder
    encoder.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    model.to(device)
    cached = load_features(
        encoder, table.frames, "throughput", folder, lambda found: model.norm(found.to(device)).cpu(), device
    )
    fit_statistics(model.cpu(), table, table.split()[0])
    target, decoder = reconstruction(model, cached)
    shaper, head = new_shaper(model), new_head(model, table)
    parts = [shaper, head, target, decoder, model.projector, model.inverse]
    for part in (model, *parts):
        part.to(device)
    for part in parts:
        part.requires_grad_(True).train()
    parameters = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    starts = table.window_starts(window + 1, table.split()[0])

    def drawn(step: int) -> NDArray[Any]:
        rng = np.random.default_rng([seed, step])
        return starts[rng.integers(0, len(starts), batch_size)][:, None] + np.arange(window + 1)

    def encode(step: int) -> torch.Tensor:
        return encode_rows(encoder, table.frames[drawn(step).ravel()], device)

    def learn(step: int, features: Rows | None) -> None:
        rows = drawn(step)
        if features is None:
            fresh = model.norm(encode(step).to(device)).reshape(*rows.shape, encoder.tokens, encoder.width)
            batch = [fresh, torch.from_numpy(table.actions[rows]), torch.from_numpy(table.proprio[rows])]
        else:
            batch = [*read_windows(table, features, rows)]
        seen, actions, proprio = (part.to(device) for part in batch)
        with mixed_precision(device):
            terms = model_losses(model, shaper, head, decoder, target, seen, actions, proprio, 1)
        descend(weighted(terms, Weights()), optimizer, parameters, 1.0, step)

    return {
        "encoding": encode,
        "training from the cache": lambda step: learn(step, cached),
        "training, encoding in the loop": lambda step: learn(step, None),
    }


def _peak_rss() -> float:
    """The most memory this process has held [GiB]; macOS counts bytes, Linux KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def _lines(measured: Mapping[str, Any]) -> list[str]:
    where, settings, target = measured["machine"], measured["settings"], measured["target"]
    verdict = "met" if target["met"] else "missed"
    rates, used, peak = measured["flop_per_second"], measured["mfu"], measured["peak_flop_per_second"]
    shares = {name: "" if used is None else f" {used[name]:.2%} |" for name in rates}
    return [
        f"# Throughput of {measured['model']['name']}",
        "",
        f"{where['cpu']}, {where['threads']} threads on {where['cores']} cores, device {where['device']}; "
        f"torch {measured['versions']['torch']}",
        f"{settings['batch_size']} clips of {settings['window'] + 1} pictures per step, median of "
        f"{settings['repeats']} steps; peak memory {measured['peak_rss_gib']:.2f} GiB",
        "",
        "| what | clips per second | TFLOP/s |"
        + ("" if used is None else f" MFU of {peak / 1e12:.0f} TFLOP/s, bf16 |"),
        "|---|---|---|" + ("" if used is None else "---|"),
        *(
            f"| {name} | {value:.1f} | {rates[name] / 1e12:.4f} |{shares[name]}"
            for name, value in measured["clips_per_second"].items()
        ),
        "",
        f"Target, from the cache against the naive way: at least {target['limit']:.0f} times as fast; "
        f"{target['measured']:.1f}, {verdict}.",
    ]
