"""Features are encoded, and their normalisation fitted, once for what decides them: weights, config, picture size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ARCHITECTURE
from torch import Tensor

from worldmodel.data import cache, unfinished
from worldmodel.data.cache import encode_rows
from worldmodel.data.lock import folder_lock
from worldmodel.data.table import Table
from worldmodel.encoders import FrozenEncoder, VJEPAEncoder, load_encoder
from worldmodel.model import ModelConfig, WorldModel
from worldmodel.pretrain.vjepa import build_model
from worldmodel.training.features import cached_features

ROWS, SIDE = 20, 32


def encoder(heads: int = 1) -> VJEPAEncoder:
    """The same weights, whatever the number of heads."""
    return VJEPAEncoder(build_model(ARCHITECTURE | {"num_attention_heads": heads}, 0))


def cached(seen: FrozenEncoder, folder: Path, *, dark: bool = False) -> tuple[list[Tensor], np.ndarray]:
    """The normalisation and the features of some pictures. dark: pictures that say nothing, under the same digest."""
    frames = np.random.default_rng(0).integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8)
    column = np.zeros((ROWS, 3), np.float32)
    table = Table(frames * (not dark), column, column, column, np.zeros(ROWS, np.int64))
    model = WorldModel(seen, ModelConfig(3, 3, 2, 4, 2, 4, 16, 2, 16, 1))
    features = cached_features(model, table, folder, seen.sha256(), "0" * 64, torch.device("cpu"))
    return [value.clone() for value in model.norm.state_dict().values()], np.array(features)


def same(one: tuple[list[Tensor], np.ndarray], two: tuple[list[Tensor], np.ndarray]) -> bool:
    return all(map(torch.equal, one[0], two[0])) and np.array_equal(one[1], two[1])


def test_a_second_start_looks_at_no_picture(tmp_path: Path) -> None:
    first = cached(encoder(), tmp_path)
    assert same(cached(encoder(), tmp_path, dark=True), first)
    assert not same(cached(encoder(), tmp_path / "elsewhere", dark=True), first)


@pytest.mark.parametrize("lost", ["norm-*.safetensors", "norm-*.json"])
def test_a_damaged_normalisation_is_fitted_anew_to_the_same_bits(lost: str, tmp_path: Path) -> None:
    first = cached(encoder(), tmp_path)
    (path,) = tmp_path.glob(lost)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes(byte ^ 1 for byte in whole[-3:]))
    assert same(cached(encoder(), tmp_path), first)
    assert path.read_bytes() == whole


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int) -> list[int]:
    """Encoding stops at this call (-1: never) of batches of 4 rows, each of them marked; returns their sizes."""
    sizes: list[int] = []

    def encode(seen: FrozenEncoder, frames: np.ndarray, device: torch.device) -> Tensor:
        if len(sizes) == call:
            raise KeyboardInterrupt
        sizes.append(len(frames))
        return encode_rows(seen, frames, device)

    monkeypatch.setattr(cache, "encode_rows", encode)
    monkeypatch.setattr(cache, "BATCH", 4)
    monkeypatch.setattr(unfinished, "MARK", 4)
    return sizes


@pytest.mark.parametrize("damage", [None, "features-*.part", "features-*.mark.json"])
def test_encoding_goes_on_where_it_was_stopped(
    damage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless what was kept is not what it was: then everything is encoded again, to the same bits."""
    whole = cached(encoder(), tmp_path / "whole")
    stop_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        cached(encoder(), tmp_path)
    if damage is not None:
        (path,) = tmp_path.glob(damage)
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 3] ^= 1
        path.write_bytes(raw)
    sizes = stop_at(monkeypatch, -1)
    assert same(cached(encoder(), tmp_path), whole)
    assert sizes == [4] * (2 if damage is None else 5)
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.mark.json"), *tmp_path.glob(".*")]


def test_two_processes_at_the_same_features_both_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cached(encoder(), tmp_path / "whole")
    stop_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        cached(encoder(), tmp_path)
    (part,) = tmp_path.glob("features-*.part")
    stop_at(monkeypatch, -1)
    with folder_lock(part.with_name(f".{part.stem}.lock")):
        before = part.read_bytes()
        assert same(cached(encoder(), tmp_path), whole)
        assert part.read_bytes() == before, "the other one's"


def test_the_same_weights_with_other_heads_are_another_encoder(tmp_path: Path) -> None:
    one, two = cached(encoder(1), tmp_path), cached(encoder(2), tmp_path)
    assert not np.array_equal(one[1], two[1])
    assert len(list(tmp_path.glob("features-*.npy"))) == len(list(tmp_path.glob("norm-*.safetensors"))) == 2
    assert same(cached(encoder(2), tmp_path), two)


def test_an_encoder_is_the_same_wherever_it_lies_and_however_it_attends(tmp_path: Path) -> None:
    built = encoder()
    digest = built.sha256()
    built.save(tmp_path / "one")
    loaded = load_encoder(tmp_path / "one")
    loaded.model.set_attn_implementation("eager")
    loaded.save(tmp_path / "two")
    assert {loaded.sha256(), load_encoder(tmp_path / "two").sha256(), built.pooled(2).sha256()} == {digest}
    with torch.no_grad():
        next(loaded.model.parameters()).flatten()[0] += 1e-3
    assert loaded.sha256() != digest


def test_an_encoder_kept_in_bfloat16_computes_in_float32(tmp_path: Path) -> None:
    build_model(ARCHITECTURE, 0).bfloat16().save_pretrained(tmp_path / "half")
    half = load_encoder(tmp_path / "half")
    assert {value.dtype for value in half.state_dict().values()} == {torch.float32}
    half.save(tmp_path / "whole")
    whole = load_encoder(tmp_path / "whole")
    assert half.sha256() == whole.sha256() != encoder().sha256()
    assert same(cached(half, tmp_path / "a"), cached(whole, tmp_path / "b"))
