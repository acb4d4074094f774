"""Training reads its cache row by row: a cache larger than the memory a process may have is no obstacle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
GIB = 2**30
LIMIT, CACHE = GIB // 2, 2 * GIB  # what the process may still take, and how large the features are

SCRIPT = f"""
import resource, sys
from pathlib import Path
import numpy as np, torch
from tiny_model import ARCHITECTURE
from worldmodel.data.rows import RowFile, RowWriter
from worldmodel.data.table import Table
from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.fit import TrainSettings, fit, fit_statistics
from worldmodel.training.losses import Weights
encoder = VJEPAEncoder(build_model(ARCHITECTURE | {{"crop_size": 64, "hidden_size": 96}}, 0))
rows = {CACHE} // (2 * encoder.tokens * encoder.width)
shape = (rows, encoder.tokens, encoder.width)
with RowWriter(Path(sys.argv[1]), shape, np.float16):
    pass  # full of holes: it takes no space on the disk
features = RowFile(Path(sys.argv[1]))
rng = np.random.default_rng(0)
actions = rng.uniform(-1, 1, (rows, 3)).astype(np.float32)
nothing = np.zeros((1, 1, 1, 3), np.uint8)
table = Table(np.broadcast_to(nothing, (rows, 1, 1, 3)), actions, 0.1 * actions, actions, np.arange(rows) // 50)
model = WorldModel(encoder, ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1))
fit_statistics(model, table, table.split()[0])
held = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + {LIMIT}, held + {LIMIT}))
settings = TrainSettings(steps=30, batch_size=32, learning_rate=1e-3, seed=0, window=6, checkpoint_every=10)
if sys.argv[2] == "copied":
    features = features[:]
fit(model, table, features, settings, Weights(), Path(sys.argv[3]), torch.device("cpu"), lambda values: None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the data of a process")
@pytest.mark.parametrize(("how", "code"), [("streamed", 0), ("copied", 1)])
def test_a_cache_four_times_the_memory_streams(how: str, code: int, tmp_path: Path) -> None:
    cache = tmp_path / "features.npy"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-c", SCRIPT, str(cache), how, str(tmp_path / "joint")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("MemoryError" in done.stderr) == (how == "copied"), done.stderr
