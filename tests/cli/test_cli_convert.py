"""`worldmodel convert`: a checkpoint in the public layout becomes a model; anything else is one line and no folder."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from public_checkpoint import (
    ENCODER_HEADS,
    GOLDEN,
    SIZES,
    encoder_weights,
    predictor_weights,
    public_encoder,
    write_checkpoint,
)
from safetensors.torch import load_file

import worldmodel
from worldmodel.cli import VERBS, main
from worldmodel.cli_options import settings_from
from worldmodel.convert import convert_vjepa2_ac
from worldmodel.encoders import normalise_pixels

SETTINGS = [*(f"{name}={value}" for name, value in SIZES.items()), f"encoder_heads={ENCODER_HEADS}"]
MIB = 2**20


def words(checkpoint: Path, digest: str, out: Path, *more: str) -> list[str]:
    return ["convert", "vjepa2_ac", f"checkpoint={checkpoint}", f"sha256={digest}", f"out={out}", *SETTINGS, *more]


COMMAND = """
import sys
from worldmodel.cli import main
code = main(sys.argv[1:])
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def run(*words: str) -> tuple[str, int]:
    """Output and peak resident memory [bytes] of one command in a process of its own."""
    done = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *output, peak = done.stdout.splitlines()
    return "\n".join(output), int(peak) * 1024


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The model folder, and the peak memory of the command that wrote it."""
    folder = tmp_path_factory.mktemp("convert")
    digest = write_checkpoint(folder / "public.pt")
    output, peak = run(*words(folder / "public.pt", digest, folder / "model", "label=fixed"))
    assert "fixed weights, encoder: target_encoder of the checkpoint" in output
    assert "warning" not in output
    return folder / "model", peak


@torch.inference_mode()
def test_the_converted_model_sees_and_predicts_like_the_public_one(converted: tuple[Path, int]) -> None:
    model = worldmodel.load(converted[0])
    assert isinstance(model, worldmodel.VJEPA2AC)
    assert (model.name, model.image_size, len(model.sha256)) == ("vjepa2_ac-fixed", 64, 64)
    frames = torch.randint(0, 256, (2, 3, 80, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = public_encoder(0)(normalise_pixels(frames.flatten(0, 1), 64)).unflatten(0, (2, 3))
    torch.testing.assert_close(model.encode(frames), F.layer_norm(seen, (96,)), atol=2e-5, rtol=0)
    golden = load_file(GOLDEN)
    z, actions, states = golden["input.z"].unflatten(1, (3, 16)), golden["input.actions"], golden["input.states"]
    path, _ = model.rollout(z[:, 0], states[:, 0], actions[:, None, :1])
    torch.testing.assert_close(path[:, 0, 0], F.layer_norm(golden["output.T1"], (96,)), atol=1e-5, rtol=0)


def test_a_large_file_needs_little_memory(converted: tuple[Path, int], tmp_path: Path) -> None:
    """Only what is copied out is ever touched, and it is not held: the rest of the file stays on the disk."""
    wide, ballast = 32_000, torch.zeros(16 * MIB)
    path = tmp_path / "large.pt"
    digest = write_checkpoint(path, target_encoder=encoder_weights(0, wide), encoder={"ballast": ballast})
    assert path.stat().st_size > 110 * MIB
    _, peak = run(*words(path, digest, tmp_path / "model"))
    assert (tmp_path / "model" / "encoder" / "model.safetensors").stat().st_size > 46 * MIB
    assert peak - converted[1] < 100 * MIB


class Payload:
    """A call that is made when the file is opened as a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def without(weights: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in weights
    return {key: value for key, value in weights.items() if key != name}


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *named: str) -> None:
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    # Without the bars of transformers, which it draws where it was imported before the command began.
    lines = [line for line in error.splitlines() if line and "%|" not in line]
    assert (out, len(lines)) == ("", 1), error
    assert lines[0].startswith("error: ")
    assert [text for text in named if text not in error] == [], error


def test_a_file_that_is_not_the_one_meant_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "public.pt", tmp_path / "model"
    digest = write_checkpoint(path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    refused(capsys, words(path, digest, out), "error: expected sha256", digest[:16], "download it again")
    digest = write_checkpoint(path, opt=Payload(tmp_path / "canary"))
    refused(capsys, words(path, digest, out), "error: expected a checkpoint of tensors", "do not trust this file")
    assert os.listdir(tmp_path) == ["public.pt"]


def test_weights_that_are_missing_or_wrong_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "public.pt", tmp_path / "model"
    own = encoder_weights(0)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"predictor": without(predictor_weights(), "predictor_norm.bias")}, "predictor_norm.bias is missing"),
        ({"target_encoder": None}, "expected a target_encoder"),
        ({"target_encoder": without(own, "module.backbone.norm.bias")}, "encoder.layernorm.bias is missing"),
        ({"target_encoder": without(own, "module.backbone.blocks.1.attn.qkv.bias")}, "1.attention.query.bias is mis"),
        ({"target_encoder": without(own, "module.backbone.patch_embed.proj.weight")}, "got none"),
        ({"target_encoder": {**own, "mask_token": torch.zeros(3)}}, "encoder.mask_token is left over"),
        ({"target_encoder": {**own, "module.backbone.norm.bias": torch.full((96,), torch.nan)}}, "NaN or infinity"),
    ]
    for changes, named in cases:
        refused(capsys, words(path, write_checkpoint(path, **changes), out), "error: expected", named)
    digest = write_checkpoint(path)
    refused(capsys, words(path, digest, out, "label=official"), "expected public | fixed for 'label'")
    refused(capsys, [*words(path, digest, out)[:-1], "encoder_heads=5"], "expected encoder_heads that divide")
    refused(capsys, ["convert", "vjepa2", *words(path, digest, out)[2:]], "expected vjepa2_ac", "'vjepa2'")
    assert os.listdir(tmp_path) == ["public.pt"]


def test_another_encoder_is_taken_and_said_to_be_another(
    converted: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, own = tmp_path / "public.pt", converted[0] / "encoder"
    digest = write_checkpoint(path)
    assert main(words(path, digest, tmp_path / "same", f"encoder={own}")) == 0
    assert "warning" not in capsys.readouterr().out
    digest = write_checkpoint(path, target_encoder=encoder_weights(2))
    assert main(words(path, digest, tmp_path / "other", f"encoder={own}")) == 0
    assert "warning: this encoder differs from the one" in capsys.readouterr().out
    frames = torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8)
    first, second = (worldmodel.load(folder).encode(frames) for folder in (converted[0], tmp_path / "other"))
    assert torch.equal(first, second)
    refused(capsys, words(path, digest, tmp_path / "new", "encoder=shipped"), "64 px, 16 tokens and width 96", "128 px")


def test_the_options_are_those_of_the_function_and_the_format_may_stand_bare() -> None:
    options = VERBS["convert"].options
    assert {*options.compose()} - {"format"} == {*inspect.signature(convert_vjepa2_ac).parameters}
    rest = ["checkpoint=a", "sha256=b", "out=c"]
    assert settings_from(options, ["vjepa2_ac", *rest]) == settings_from(options, ["format=vjepa2_ac", *rest])
