"""What the encoder sees in every row, encoded and normalised once for all runs on the same data.

Legend: N rows of the table, M encoder tokens, F their width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldmodel.data.cache import encode_rows, load_features
from worldmodel.data.rows import RowFile
from worldmodel.data.table import Table
from worldmodel.errors import OutputError, TrainingError
from worldmodel.model import WorldModel
from worldmodel.projector import FeatureNorm
from worldmodel.storage import atomic_file, sha256_file, write_json
from worldmodel.tokens import TokenModel
from worldmodel.weights import fill

STATISTICS_ROWS = 3000


def cached_features(
    model: WorldModel | TokenModel,
    table: Table,
    folder: Path,
    encoder_sha256: str,
    data_sha256: str,
    device: torch.device,
) -> RowFile:
    """Normalised features of all rows, float16 [N,M,F], a file in `folder`.

    Gives the model's norm, if it has any, the statistics of a sample of rows, which lie beside the features and are
    fitted once, too.
    """
    encoder = model.encoder
    # Below about fifty tokens, and on a CPU in general at this size, plain softmax attention beats the fused kernel.
    encoder.model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    encoder.to(device)
    rows = np.sort(np.random.default_rng(0).choice(len(table), min(STATISTICS_ROWS, len(table)), replace=False))
    made_from = f"{encoder_sha256} {encoder.image_size} {encoder.pool} {data_sha256}"
    made_from += "" if isinstance(model.norm, FeatureNorm) else " layer-normalised"
    name = hashlib.sha256(made_from.encode()).hexdigest()
    if isinstance(model.norm, FeatureNorm):
        known = folder / f"norm-{name[:32]}.safetensors"
        _fit_once(model.norm, known, lambda: encode_rows(encoder, table.frames[rows], device))
    features = load_features(encoder, table.frames, name, folder, model.norm, device)
    encoder.to("cpu")
    return features


def _fit_once(norm: FeatureNorm, path: Path, sample: Callable[[], Tensor]) -> None:
    """Fit the norm to a sample [n,M,F], or take what that gave before; what is damaged is made anew."""
    seal = path.with_suffix(".json")
    with suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(seal.read_text(encoding="utf-8"))["sha256"] == sha256_file(path):
            fill(norm, load_file(path), f"the normalisation in {path}", TrainingError)
            return
    norm.fit(sample())
    with suppress(OutputError):  # features may lie where nothing can be written; then it is fitted every time
        with atomic_file(path) as temporary:
            save_file(norm.state_dict(), temporary)
        write_json(seal, {"sha256": sha256_file(path)})
