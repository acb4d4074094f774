from __future__ import annotations

from typing import Any

import pytest
import torch
from lively import A, D, N, P, inputs, lively

from worldmodel.errors import ConfigError, WorldModelError
from worldmodel.transformer import Layout, TransformerPredictor

LAYOUTS: tuple[Layout, ...] = ("action_after", "vjepa2_ac")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("frames", [1, 4])
def test_one_prediction_for_each_frame(layout: Layout, frames: int) -> None:
    out = lively(layout)(*inputs(2, frames))
    assert out.shape == (2, frames, N, D)
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_comes_later_changes_nothing(layout: Layout) -> None:
    predictor, frames = lively(layout).requires_grad_(False), 4
    before = predictor(*inputs(2, frames))
    for index in range(1, frames):
        for which in range(3):
            changed = [tensor.clone() for tensor in inputs(2, frames)]
            changed[which][:, index] += 1.0
            after = predictor(*changed)
            torch.testing.assert_close(after[:, :index], before[:, :index], atol=1e-6, rtol=0)
            # In particular action t decides slot t.
            assert bool(((after[:, index:] - before[:, index:]).abs().amax(dim=(2, 3)) > 1e-3).all())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prefix_predicts_the_same(layout: Layout) -> None:
    predictor, given = lively(layout), inputs(2, 4)
    whole = predictor(*given)
    for frames in (1, 2, 3):
        part = predictor(*(tensor[:, :frames] for tensor in given))
        torch.testing.assert_close(part, whole[:, :frames], atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_actions_and_every_weight(layout: Layout) -> None:
    predictor = lively(layout)
    z, actions, proprio = inputs(2, 3)
    actions.requires_grad_()
    predictor(z, actions, proprio)[:, 1].abs().sum().backward()
    assert actions.grad is not None
    assert bool((actions.grad[:, :2] != 0).all())
    assert bool((actions.grad[:, 2] == 0).all())
    assert [name for name, weight in predictor.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_the_layouts_have_the_same_weights_and_differ_in_what_they_compute() -> None:
    after, inside = (lively(layout, seed).requires_grad_(False) for seed, layout in enumerate(LAYOUTS))
    inside.load_state_dict(after.state_dict())
    given = inputs(2, 2)
    assert float((after(*given) - inside(*given)).abs().max()) > 1e-3
    early = lively("action_after", perception=0)
    torch.testing.assert_close(early(*given), inside(*given), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_whole_batch_equals_its_members(layout: Layout) -> None:
    predictor, given = lively(layout), inputs(3, 2)
    alone = torch.cat([predictor(*(tensor[i : i + 1] for tensor in given)) for i in range(3)])
    torch.testing.assert_close(predictor(*given), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_runs_in_bfloat16_and_under_autocast(layout: Layout) -> None:
    predictor, given = lively(layout).requires_grad_(False), inputs(2, 3)
    wanted = predictor(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = predictor(*given)
    low = predictor.to(torch.bfloat16)(*given)
    assert low.dtype == mixed.dtype == torch.bfloat16
    for out in (mixed, low):
        assert float((out.float() - wanted).norm() / wanted.norm()) < 0.05


@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        (((2, 3, N + 1, D), (2, 3, A), (2, 3, P)), "z"),
        (((2, 3, N, D - 1), (2, 3, A), (2, 3, P)), "z"),
        (((3, N, D), (3, A), (3, P)), "z"),
        (((2, 9, N, D), (2, 9, A), (2, 9, P)), "T=9"),
        (((2, 0, N, D), (2, 0, A), (2, 0, P)), "T=0"),
        (((2, 3, N, D), (2, 2, A), (2, 3, P)), "actions"),
        (((2, 3, N, D), (2, 3, A + 1), (2, 3, P)), "actions"),
        (((2, 3, N, D), (1, 3, A), (2, 3, P)), "actions"),
        (((2, 3, N, D), (2, 3, A), (2, 3)), "proprio"),
        (((2, 3, N, D), (2, 3, A), (2, 4, P)), "proprio"),
    ],
)
def test_wrong_shapes_are_named_in_one_line(shapes: tuple[tuple[int, ...], ...], named: str) -> None:
    with pytest.raises(WorldModelError, match=rf"^expected (?=.*\b{named}\b).*, got .*: \w") as caught:
        lively("action_after")(*(torch.zeros(shape) for shape in shapes))
    assert "\n" not in str(caught.value)


def test_integers_are_refused() -> None:
    z, actions, proprio = inputs(2, 3)
    with pytest.raises(WorldModelError, match=r"expected actions as floats .*, got int64 \[2, 3, 3\]"):
        lively("action_after")(z, actions.long(), proprio)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"latent_tokens": 5}, "latent_tokens"),
        ({"latent_tokens": -4}, "latent_tokens"),
        ({"heads": 5}, "width"),
        ({"width": 14, "heads": 2}, "width"),
        ({"heads": 0}, "heads"),
        ({"depth": 0}, "depth"),
        ({"action_dim": 0}, "action_dim"),
        ({"context": 0}, "context"),
        ({"mlp_ratio": 0.0}, "mlp_ratio"),
        ({"perception": 3}, "perception"),
        ({"layout": "vjepa2_ac", "perception": 1}, "perception"),
        ({"layout": "action_first"}, "layout"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, Any], named: str) -> None:
    sizes = {
        "latent_tokens": N,
        "latent_dim": D,
        "action_dim": A,
        "proprio_dim": P,
        "width": 32,
        "depth": 3,
        "heads": 2,
    }
    with pytest.raises(ConfigError, match=named) as caught:
        TransformerPredictor(**{**sizes, **settings})
    assert "\n" not in str(caught.value)
