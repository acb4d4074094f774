from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from public_checkpoint import ENCODER_HEADS, GOLDEN, SIZES
from public_checkpoint import predictor_weights as weights
from public_checkpoint import write_checkpoint as checkpoint
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from worldmodel.convert import convert_vjepa2_ac, load_vjepa2_ac_predictor
from worldmodel.errors import BundleError, ConfigError, OutputError, WorldModelError
from worldmodel.storage import sha256_file
from worldmodel.transformer import TransformerPredictor

FRAMES, TOKENS = 3, 16
ALL_SIZES = {**SIZES, "encoder_heads": ENCODER_HEADS}


def given() -> tuple[Tensor, Tensor, Tensor]:
    tensors = load_file(GOLDEN)
    return tensors["input.z"].unflatten(1, (FRAMES, TOKENS)), tensors["input.actions"], tensors["input.states"]


def test_the_golden_file_is_what_the_sizes_say() -> None:
    with safe_open(GOLDEN, "pt") as file:
        metadata = file.metadata()
    assert [metadata[key] for key in ("img_size", "patch_size", "heads", "tokens_per_frame")] == ["64", "16", "2", "16"]


@pytest.mark.parametrize("frames", [1, 2, 3])
@torch.inference_mode()
def test_the_predictions_are_those_of_the_public_code(frames: int) -> None:
    predictor = load_vjepa2_ac_predictor(weights(), **SIZES)
    got = predictor(*(tensor[:, :frames] for tensor in given()))
    assert not predictor.training
    torch.testing.assert_close(got.flatten(1, 2), load_file(GOLDEN)[f"output.T{frames}"], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_cache_predicts_like_the_public_code() -> None:
    predictor, (z, actions, proprio) = load_vjepa2_ac_predictor(weights(), **SIZES), given()
    for frames in (1, 2, 3):
        cache = predictor.encode_context(z[:, :frames], actions[:, : frames - 1], proprio[:, :frames])
        got, _ = predictor.step(cache, actions[:, frames - 1 : frames])
        wanted = load_file(GOLDEN)[f"output.T{frames}"][:, -TOKENS:]
        torch.testing.assert_close(got.squeeze(1), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_prefixes_of_training_wrappers_are_dropped(prefix: str) -> None:
    predictor = load_vjepa2_ac_predictor({prefix + name: value for name, value in weights().items()}, **SIZES)
    wanted = weights()
    assert {*predictor.state_dict()} == {name for name in wanted if not name.startswith("extrinsics_encoder")}
    assert all(torch.equal(value, wanted[name]) for name, value in predictor.state_dict().items())


def test_half_precision_weights_load_in_float32_and_are_copied() -> None:
    state = {name: value.half() for name, value in weights().items()}
    predictor = load_vjepa2_ac_predictor(state, **SIZES)
    assert {value.dtype for value in predictor.state_dict().values()} == {torch.float32}
    state = weights()
    predictor = load_vjepa2_ac_predictor(state, **SIZES)
    with torch.no_grad():
        predictor.predictor_proj.weight.zero_()
    assert bool(state["predictor_proj.weight"].any())


def refused(state: dict[str, Any], *named: str, **sizes: int) -> None:
    with pytest.raises(WorldModelError) as caught:
        load_vjepa2_ac_predictor(state, **{**SIZES, **sizes})
    message = str(caught.value)
    assert message.startswith("expected ")
    assert "\n" not in message
    assert [name for name in named if name not in message] == []


@pytest.mark.parametrize("name", sorted(weights()))
def test_each_missing_weight_is_named(name: str) -> None:
    state = weights()
    del state[name]
    refused(state, name)


def test_leftover_and_misshapen_weights_are_named() -> None:
    refused({**weights(), "mask_token": torch.zeros(3)}, "mask_token is left over")
    refused(
        {**weights(), "predictor_blocks.7.norm1.weight": torch.zeros(128)},
        "predictor_blocks.7.norm1.weight is left over",
    )
    without = {name: value for name, value in weights().items() if not name.startswith("predictor_blocks.1.norm")}
    refused(without, "predictor_blocks.1.norm1.weight is missing", "and 1 more")
    refused({**weights(), "predictor_norm.weight": torch.zeros(127)}, "predictor_norm.weight is [127], not [128]")
    refused({**weights(), "extrinsics_encoder.bias": torch.zeros(5)}, "extrinsics_encoder.bias is [5], not [128]")
    refused({**weights(), "predictor_embed.weight": torch.zeros(128)}, "predictor_embed.weight", "[128]")
    refused(
        {**weights(), "predictor_norm.bias": torch.zeros(128, dtype=torch.int8)}, "predictor_norm.bias is torch.int8"
    )
    refused({**weights(), "epoch": 3}, "int at 'epoch'")
    refused({**weights(), "module.predictor_norm.bias": torch.zeros(128)}, "predictor_norm.bias twice")
    refused({}, "predictor_embed.weight")


def test_sizes_that_do_not_fit_are_refused() -> None:
    refused(weights(), "image_size", image_size=65)
    refused(weights(), "image_size", patch_size=0)
    refused(weights(), "heads", num_heads=3)


@torch.inference_mode()
def test_a_checkpoint_becomes_a_predictor_that_predicts_the_same(tmp_path: Path) -> None:
    digest = checkpoint(tmp_path / "public.pt")
    out = tmp_path / "converted"
    config = convert_vjepa2_ac(
        checkpoint=tmp_path / "public.pt", sha256=digest.upper(), out=out, label="public", **ALL_SIZES
    )
    assert json.loads((out / "config.json").read_text()) == config
    assert (config["label"], config["source_sha256"], config["latent_tokens"]) == ("public", digest, TOKENS)
    manifest = json.loads((out / "MANIFEST.json").read_text())
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert {name: sha256_file(out / name) for name in files if name != "MANIFEST.json"} == manifest
    predictor = load_vjepa2_ac_predictor(load_file(out / "predictor.safetensors"), **SIZES)
    torch.testing.assert_close(predictor(*given()).flatten(1, 2), load_file(GOLDEN)["output.T3"], atol=1e-5, rtol=0)


class Payload:
    """What an attacker puts into a pickle: a call that is made when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_code_inside_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    digest = checkpoint(tmp_path / "evil.pt", opt=Payload(tmp_path / "owned"))
    with pytest.raises(BundleError, match="expected a checkpoint of tensors") as caught:
        convert_vjepa2_ac(
            checkpoint=tmp_path / "evil.pt", sha256=digest, out=tmp_path / "out", label="public", **ALL_SIZES
        )
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["evil.pt"]


def test_a_checkpoint_with_another_sha256_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "public.pt"
    digest = checkpoint(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=f"expected sha256 {digest[:16]} .* got {sha256_file(path)[:16]}"):
        convert_vjepa2_ac(checkpoint=path, sha256=digest, out=tmp_path / "out", label="public", **ALL_SIZES)
    assert sorted(os.listdir(tmp_path)) == ["public.pt"]


def convert(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "public.pt"
    return convert_vjepa2_ac(
        checkpoint=path, sha256=checkpoint(path, **changes), out=folder / "out", label="fixed", **ALL_SIZES
    )


def test_checkpoints_that_are_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a checkpoint with a predictor, got .*'encoder'"):
        convert(tmp_path, predictor=None)
    with pytest.raises(BundleError, match=r"predictor_norm\.weight is missing"):
        convert(
            tmp_path, predictor={name: value for name, value in weights().items() if name != "predictor_norm.weight"}
        )
    with pytest.raises(BundleError, match=r"NaN or infinity in predictor_norm\.weight"):
        convert(tmp_path, predictor={**weights(), "predictor_norm.weight": torch.full((128,), torch.nan)})
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for name, digest in (("text.pt", sha256_file(tmp_path / "text.pt")), ("none.pt", "0" * 64)):
        with pytest.raises(BundleError, match="expected a checkpoint"):
            convert_vjepa2_ac(
                checkpoint=tmp_path / name, sha256=digest, out=tmp_path / "out", label="fixed", **ALL_SIZES
            )
    assert not (tmp_path / "out").exists()


def test_a_label_must_be_known_and_the_folder_new(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected label public or fixed"):
        convert_vjepa2_ac(checkpoint=tmp_path / "a", sha256="", out=tmp_path / "out", label="official", **SIZES)
    convert(tmp_path)
    with pytest.raises(OutputError, match="does not exist yet"):
        convert(tmp_path)


def test_the_public_sizes_are_understood() -> None:
    """The 24-block predictor of the release: its shapes, without its numbers."""
    with torch.device("meta"):
        full = TransformerPredictor(
            latent_tokens=256, latent_dim=1408, action_dim=7, proprio_dim=7, width=1024, depth=24, heads=16,
            layout="vjepa2_ac",
        )  # fmt: skip
    names = {name: list(value.shape) for name, value in full.state_dict().items()}
    assert len(names) + 2 == 300
    assert sum(value.numel() for value in full.state_dict().values()) + 1024 * 7 == 305_220_992
    assert names["predictor_blocks.23.attn.qkv.weight"] == [3072, 1024]
    assert names["predictor_proj.weight"] == [1408, 1024]
