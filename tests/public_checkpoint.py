"""A file with the layout of the public V-JEPA 2-AC checkpoint, at toy sizes, and its encoder written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from worldmodel.attention import Block, rotary_tables
from worldmodel.storage import sha256_file

GOLDEN = Path(__file__).parent / "golden" / "vjepa2_ac_predictor_golden.safetensors"
SIZES = {"image_size": 64, "patch_size": 16, "num_heads": 2}
ENCODER_HEADS, WIDTH = 4, 96


class PublicEncoder(nn.Module):
    """The public encoder's names and arithmetic, on the blocks that the golden predictor outputs prove."""

    def __init__(self, hidden: int, depth: int = 2) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, WIDTH, (2, 16, 16), (2, 16, 16))
        self.blocks = nn.ModuleList(Block(WIDTH, ENCODER_HEADS, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [n,3,64,64] -> [n,16,96]; each is doubled into one tubelet."""
        x = self.patch_embed.proj(pixels.unsqueeze(2).expand(-1, -1, 2, -1, -1)).flatten(2).transpose(1, 2)
        x = x.unsqueeze(1)
        for block in self.blocks:
            x, _ = block(x, rotary_tables(torch.zeros(1), 4, 0, WIDTH // ENCODER_HEADS))
        return self.norm(x)[:, 0]


def public_encoder(seed: int, hidden: int = 160) -> PublicEncoder:
    """Random weights so large that every one of them matters."""
    encoder = PublicEncoder(hidden)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.copy_(centre + 0.2 * torch.randn(weight.shape, generator=generator))
    return encoder.eval()


def predictor_weights() -> dict[str, Tensor]:
    return {k.removeprefix("weights."): v for k, v in load_file(GOLDEN).items() if k.startswith("weights.")}


def encoder_weights(seed: int, hidden: int = 160) -> dict[str, Tensor]:
    weights = {f"module.backbone.{name}": value for name, value in public_encoder(seed, hidden).state_dict().items()}
    return {**weights, "module.backbone.pos_embed": torch.zeros(1, 16, WIDTH)}


def write_checkpoint(path: Path, **changes: Any) -> str:
    """Write the file and return its sha256; a change to None leaves a part out."""
    contents = {
        "encoder": encoder_weights(1),
        "predictor": {f"module.{name}": value for name, value in predictor_weights().items()},
        "opt": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
        "scaler": {"scale": 65536.0},
        "target_encoder": encoder_weights(0),
        "epoch": 315, "loss": 0.5, "batch_size": 8, "world_size": 32, "lr": 0.0,
    }  # fmt: skip
    torch.save({key: value for key, value in {**contents, **changes}.items() if value is not None}, path)
    return sha256_file(path)
