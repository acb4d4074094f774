"""The smallest V-JEPA 2 that still has every part."""

from __future__ import annotations

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
