"""The smallest V-JEPA 2 and the smallest world model that still have every part."""

from __future__ import annotations

import torch

from worldmodel.encoders import VJEPAEncoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model

ARCHITECTURE = {
    "crop_size": 32,
    "patch_size": 8,
    "tubelet_size": 2,
    "frames_per_clip": 2,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "pred_hidden_size": 12,
    "pred_num_hidden_layers": 1,
    "pred_num_attention_heads": 1,
    "pred_num_mask_tokens": 1,
}

# What makes `worldmodel train` a matter of seconds.
TRAIN = (
    "predictor=tiny",
    "steps=2",
    "track_steps=2",
    "track_rounds=1",
    "refine_steps=2",
    "propose_steps=2",
    "batch_size=4",
    "device=cpu",
)


def tiny_model() -> WorldModel:
    torch.manual_seed(0)
    planning = {"horizon": 3, "num_samples": 20, "num_iterations": 2}
    config = ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1, planning=planning, proposal_steps=2)
    return WorldModel(VJEPAEncoder(build_model(ARCHITECTURE, 0)), config, name="tiny").eval()
