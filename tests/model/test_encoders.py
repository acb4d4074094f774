"""Encoders of every family, from folders that `save_pretrained` wrote: offline, frozen, at their own resolution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import worldmodel
from worldmodel.bundle import load, save
from worldmodel.data.table import Table
from worldmodel.encoders import DINOEncoder, VJEPAEncoder, load_encoder, normalise_pixels
from worldmodel.errors import EncoderError
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.training.features import cached_features

SIDE, PATCH, WIDTH = 56, 14, 24


def write_encoder(kind: str, folder: Path) -> Path:
    """A tiny encoder with random weights in the layout of facebook/dinov2-small and its like."""
    import transformers as hf

    torch.manual_seed(0)
    sizes = {"patch_size": PATCH, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "dinov2":
        model = hf.Dinov2Model(hf.Dinov2Config(image_size=SIDE, mlp_ratio=2, **sizes))
    elif kind == "dinov2_with_registers":
        model = hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(image_size=SIDE, mlp_ratio=2, **sizes))
    elif kind == "dinov3_vit":
        model = hf.DINOv3ViTModel(hf.DINOv3ViTConfig(image_size=SIDE, num_register_tokens=3, **sizes))
    else:
        unused = {"pred_hidden_size": 12, "pred_num_attention_heads": 1, "pred_num_hidden_layers": 1}
        model = hf.VJEPA2Model(hf.VJEPA2Config(crop_size=SIDE, frames_per_clip=2, **sizes, **unused))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


KINDS = ("vjepa2", "dinov2", "dinov2_with_registers", "dinov3_vit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(kind, root / kind) for kind in KINDS}


def frames(side: int, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, count, side, side, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_gives_its_patches_at_its_own_resolution(kind: str, folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders[kind])
    assert isinstance(encoder, VJEPAEncoder if kind == "vjepa2" else DINOEncoder)
    assert (encoder.image_size, encoder.tokens, encoder.width) == (SIDE, 16, WIDTH)
    small, large = encoder(frames(SIDE)), encoder(frames(100))
    assert small.shape == large.shape == (1, 3, 16, WIDTH)
    assert small.dtype == torch.float32
    alone = encoder(frames(SIDE)[:, 1:2])
    torch.testing.assert_close(alone[:, 0], small[:, 1], atol=1e-5, rtol=0)
    encoder.train()
    assert not encoder.training
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@torch.inference_mode()
def test_dino_is_read_without_class_token_and_registers(folders: dict[str, Path]) -> None:
    for kind, before in (("dinov2", 1), ("dinov2_with_registers", 5), ("dinov3_vit", 4)):
        encoder = load_encoder(folders[kind])
        whole = encoder.model(pixel_values=normalise_pixels(frames(SIDE)[0], SIDE)).last_hidden_state
        assert whole.shape[1] == before + 16
        assert torch.equal(encoder(frames(SIDE))[0], whole[:, before:])


def test_pooling_averages_squares_of_the_grid(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["dinov2"])
    whole = encoder(frames(SIDE)).unflatten(2, (4, 4))
    for pool, tokens in ((2, 4), (4, 1)):
        pooled = encoder.pooled(pool)
        assert pooled.tokens == tokens
        squares = whole.unflatten(2, (-1, pool)).unflatten(4, (-1, pool)).mean(dim=(3, 5))
        torch.testing.assert_close(pooled(frames(SIDE)), squares.flatten(2, 3), atol=1e-6, rtol=0)
    for pool in (3, 0, 8):
        with pytest.raises(EncoderError, match="a pool that divides their grid"):
            encoder.pooled(pool)


def test_the_shipped_models_own_encoder_goes_by_its_name() -> None:
    encoder, own = load_encoder("shipped"), load("jaco").encoder
    assert encoder.sha256() == own.sha256()
    assert (encoder.image_size, encoder.tokens, encoder.width) == (128, 64, 192)


def test_the_crop_size_of_the_folder_counts_and_travels_with_the_model(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """facebook/dinov2-small: positions for 518 px, a crop of 224 px."""
    folder = write_encoder("dinov2", tmp_path / "encoder")
    (folder / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 28, "width": 28}}))
    model = WorldModel(load_encoder(folder), ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1, pool=2), name="dino").eval()
    assert (model.encoder.image_size, model.encoder.tokens) == (28, 1)
    save(model, tmp_path / "model", "# card")
    again = load(tmp_path / "model")
    assert isinstance(again, WorldModel)
    assert (again.image_size, again.encoder.tokens, again.config) == (28, 1, model.config)
    assert torch.equal(again.encode(frames(40)), model.encode(frames(40)))
    manifest = json.loads((tmp_path / "model" / "MANIFEST.json").read_text())
    assert "encoder/preprocessor_config.json" in manifest
    alone = load_encoder(folders["dinov2"])
    alone.save(tmp_path / "copy")
    assert torch.equal(load_encoder(tmp_path / "copy")(frames(40)), alone(frames(40)))


def test_features_are_cached_for_each_pool_and_leave_the_encoder_as_it_was(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    column = np.zeros((6, 3), np.float32)
    table = Table(pictures, column, column, column, np.zeros(6, np.int64))
    encoder = load_encoder(folders["dinov3_vit"])
    before = encoder.sha256()
    for pool, tokens in ((1, 16), (2, 4), (1, 16)):
        model = WorldModel(encoder, ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1, pool=pool))
        features = cached_features(model, table, tmp_path, before, "0" * 64, torch.device("cpu"))
        assert features.shape == (6, tokens, WIDTH)
        wanted = model.norm(encoder.pooled(pool)(torch.from_numpy(pictures)[:, None]))[:, 0]
        np.testing.assert_allclose(features, wanted, atol=2e-2)
    assert len(list(tmp_path.glob("features-*.npy"))) == 2
    assert encoder.sha256() == before


def test_weights_that_are_missing_are_not_made_up(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for kind, lost in (("dinov2", "layernorm.bias"), ("vjepa2", "encoder.layernorm.bias")):
        folder = tmp_path / kind
        folder.mkdir()
        weights = load_file(folders[kind] / "model.safetensors")
        save_file({name: value for name, value in weights.items() if name != lost}, folder / "model.safetensors")
        (folder / "config.json").write_text((folders[kind] / "config.json").read_text())
        with pytest.raises(EncoderError, match=f"got none for {lost}"):
            load_encoder(folder)


def test_what_is_no_encoder_is_refused_in_one_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((folders["dinov2"] / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    odd = write_encoder("dinov2", tmp_path / "odd")
    (odd / "preprocessor_config.json").write_text(json.dumps({"crop_size": 30}))
    for folder, says in ((empty, "with config.json"), (bare, "got an error"), (other, "model_type"), (odd, "30 px")):
        with pytest.raises(EncoderError, match=says) as caught:
            load_encoder(folder)
        assert "\n" not in str(caught.value)


def test_a_torchvision_for_another_torch_is_named_and_not_the_model(tmp_path: Path) -> None:
    """transformers imports any torchvision there is, and one of another build cannot be imported."""
    (tmp_path / "torchvision").mkdir()
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    (tmp_path / "torchvision" / "__init__.py").write_text(broken, encoding="utf-8")
    (tmp_path / "torchvision-0.28.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n"
    (tmp_path / "torchvision-0.28.0.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "worldmodel.cli",
        "drive",
        "task=jaco_reach",
        "episodes=1",
        f"out={tmp_path / 'out'}",
    ]
    paths = os.pathsep.join([str(tmp_path), str(Path(worldmodel.__file__).parents[1])])
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert "pip uninstall torchvision" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


@torch.inference_mode()
def test_v_jepa_doubles_a_frame_into_one_tubelet(folders: dict[str, Path]) -> None:
    encoder = load_encoder(folders["vjepa2"])
    pixels = normalise_pixels(frames(SIDE)[0], SIDE)
    whole = encoder.model.encoder(torch.stack([pixels, pixels], dim=1)).last_hidden_state
    assert torch.equal(encoder(frames(SIDE))[0], whole)
    assert not torch.allclose(F.layer_norm(whole, (WIDTH,)), whole)
