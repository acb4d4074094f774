"""Faults 38 to 46: costs that are no numbers, impossible settings, stale plans, goals that are none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.faults import toy
from tests.faults.harness import Fault, Lab, Tally


def planners() -> dict[str, Any]:
    import planners

    return {name: getattr(planners, name) for name in ("cem", "icem", "mppi", "random_shooting", "gradient")}


def problem(rows: int = 2, horizon: int = 4, dims: int = 3) -> tuple[Any, Any]:
    import torch

    from planners import ActionBox, Proposal

    mean = torch.zeros(rows, horizon, dims)
    return Proposal(mean, torch.full_like(mean, 0.6)), ActionBox(-torch.ones(dims), torch.ones(dims))


def seeded(seed: int = 0) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def small(planner: Any, **settings: Any) -> Any:
    """A planner with few samples, as far as it has the settings."""
    few = {"num_samples": 24, "num_elites": 6, "num_iterations": 3, **settings}
    return partial(planner, **{k: v for k, v in few.items() if k in inspect.signature(planner).parameters})


def distance(actions: Any) -> Any:
    return (actions - 0.4).square().sum((-1, -2))


def broken_costs(tally: Tally, lab: Lab) -> None:
    """Some costs NaN or infinite: inside the box, finite, and never one of those candidates."""
    import torch

    for name, planner in planners().items():
        for value in (torch.nan, torch.inf, -torch.inf):
            for share in (0.1, 0.5, 0.95):
                chance, broken = seeded(3), []

                def cost(actions: Any, chance: Any = chance, share: float = share, value: float = value,
                         broken: Any = broken) -> Any:  # fmt: skip
                    found = distance(actions)
                    mask = torch.rand(found.shape, generator=chance) < share
                    mask[:, 0] = False
                    broken.extend(actions.detach()[mask])
                    return torch.where(mask, value, found)

                init, box = problem()
                note = f"{name}, {share:.0%} of {value}"
                try:
                    plan = small(planner)(cost, init, box, seeded())
                except Exception as error:
                    tally.count("wrong", f"{note}: {error}")
                    continue
                inside = bool((plan.actions.abs() <= 1).all()) and bool(torch.isfinite(plan.cost).all())
                elected = any(bool((plan.actions == bad).all((-1, -2)).any()) for bad in broken)
                good = inside and not elected and bool(torch.isfinite(plan.proposal.std).all())
                true = name == "mppi" or torch.allclose(distance(plan.actions[:, None])[:, 0], plan.cost)
                tally.holds(good and true, note)


def only_broken(tally: Tally, lab: Lab) -> None:
    import torch

    for name, planner in planners().items():
        for value in (torch.nan, torch.inf, -torch.inf):
            init, box = problem()
            call = partial(small(planner), lambda a, v=value: distance(a) * 0.0 + v, init, box, seeded())
            tally.refused(f"{name}, all {value}", call, "finite cost")


def settings(tally: Tally, lab: Lab) -> None:
    """Impossible settings are refused; the legal edges give finite plans."""
    import torch

    impossible: dict[str, Any] = {
        "num_samples": 0, "num_elites": 0, "num_iterations": 0, "momentum": 1.0, "min_std": -1.0, "noise_beta": -1.0,
        "deadline": -1.0, "temperature": 0.0, "relative_temperature": 0.0, "keep_elites": 2.0, "learning_rate": 0.0,
        "select": "worst",
    }  # fmt: skip
    for name, planner in planners().items():
        for key, value in impossible.items():
            if key in inspect.signature(planner).parameters:
                call = partial(small(planner, **{key: value}), distance, *problem(), seeded())
                tally.refused(f"{name}, {key}={value}", call, key)
        for edge in ({"num_elites": 1}, {"num_samples": 1}, {"num_iterations": 1}, {"num_elites": 500}):
            for horizon in (1, 4):
                plan = small(planner, **edge)(distance, *problem(horizon=horizon), seeded())
                good = bool(torch.isfinite(plan.proposal.std).all() and torch.isfinite(plan.actions).all())
                tally.holds(good, f"{name}, {edge}, horizon {horizon}")


def boxes(tally: Tally, lab: Lab) -> None:
    """Boxes that are none; and samples and plans that never leave one, whatever the start."""
    import torch

    from planners import ActionBox, Proposal

    one = torch.ones(3)
    for note, low, high in (
        ("swapped", one, -one), ("infinite", -one * torch.inf, one), ("NaN", -one, one * torch.nan),
        ("of two sizes", -one, torch.ones(4)), ("whole numbers", -one.int(), one.int()), ("flat", -one[0], one[0]),
        ("empty", one[:0], one[:0]), ("two types", -one, one.double()),
    ):  # fmt: skip
        tally.refused(f"box {note}", partial(ActionBox, low, high), "expected")
    chance = seeded(41)
    for name, planner in planners().items():
        tally.refused(f"{name}: box of other dims", partial(small(planner), distance, problem()[0],
                      ActionBox(-torch.ones(2), torch.ones(2)), seeded()), "bounds")  # fmt: skip
        for _ in range(lab.times(6, 200)):
            low = torch.randn(3, generator=chance) * 10
            box = ActionBox(low, low + torch.rand(3, generator=chance) * 5)
            seen: list[bool] = []

            def cost(actions: Any, seen: Any = seen, box: Any = box) -> Any:
                seen.append(bool(((actions >= box.low) & (actions <= box.high)).all()))
                return distance(actions)

            mean = torch.randn(2, 4, 3, generator=chance) * 30
            plan = small(planner)(cost, Proposal(mean, torch.full_like(mean, 9.0)), box, seeded())
            tally.holds(all(seen) and bool((plan.actions == box.clamp(plan.actions)).all()), f"{name} left its box")


def huge_costs(tally: Tally, lab: Lab) -> None:
    """Ties and numbers near the end of the floats: finite weights, finite plans."""
    import torch

    shapes: dict[str, Callable[[Any], Any]] = {
        "all 1e30": lambda c: torch.full_like(c, 1e30), "all 0": lambda c: torch.zeros_like(c),
        "3e38": lambda c: c / c.max() * 3e38, "-3e38": lambda c: -c / c.max() * 3e38, "one ulp": lambda c: 1 + c * 1e-7,
        "1e-38": lambda c: c * 1e-38, "one of 1e30": lambda c: torch.where(c == c.max(), 1e30, c),
    }  # fmt: skip
    for name, planner in planners().items():
        for note, shape in shapes.items():
            plan = small(planner)(lambda a, shape=shape: shape(distance(a)) + 0.0 * distance(a), *problem(), seeded())
            finite = torch.isfinite(plan.actions).all() and torch.isfinite(plan.proposal.std).all()
            tally.holds(bool(finite) and bool((plan.actions.abs() <= 1).all()), f"{name}, {note}")


def same_again(tally: Tally, lab: Lab) -> None:
    """One seed, one plan; the process's own random state is neither read nor changed."""
    import torch

    for name, planner in planners().items():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = small(planner)(distance, *problem(), seeded(5))
        tally.holds(torch.equal(torch.get_rng_state(), before), f"{name} changed the random state")
        torch.manual_seed(2)
        second = small(planner)(distance, *problem(), seeded(5))
        tally.holds(torch.equal(first.actions, second.actions) and torch.equal(first.cost, second.cost), name)


def agent(lab: Lab) -> Any:
    from worldmodel.bundle import load

    loaded: Any = load(toy.model(lab))
    return loaded.agent(planner="cem", num_samples=8, num_elites=2, num_iterations=2)


def pictures(count: int, seed: int = 0, side: int = 32) -> Any:
    import numpy as np

    return np.random.default_rng(seed).integers(0, 255, (count, side, side, 3), dtype=np.uint8)


def goals(tally: Tally, lab: Lab) -> None:
    """Arrays and files that are no goal picture."""
    import numpy as np
    from PIL import Image

    from benchmarks.goal_image import load_goal_image

    whole = pictures(1)
    for note, bad in {
        "floats": whole / np.float32(255), "float64": whole / 255.0, "int64": whole.astype(np.int64),
        "NaN": np.full(whole.shape, np.nan, np.float32), "with alpha": np.pad(whole, ((0, 0),) * 3 + ((0, 1),)),
        "grey": whole[..., :1], "no channels": whole[..., 0], "channels first": whole.transpose(0, 3, 1, 2),
        "one picture": whole[0], "bool": whole > 9,
    }.items():  # fmt: skip
        tally.refused(f"goal: {note}", lambda bad=bad: agent(lab).reset(bad, [0]), "expected", "uint8")
    folder = lab.fresh("goals")
    folder.mkdir()
    Image.fromarray(pictures(1)[0]).save(folder / "good.png")
    content = (folder / "good.png").read_bytes()
    bomb = Image.new("1", (20000, 20000))
    bomb.save(folder / "bomb.png")
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to(folder / "loop.png")
    for name in ("cut.png", "empty.png", "text.png", "folder.png", "bomb.png", "absent.png", "loop.png"):
        tally.refused(f"goal={name}", lambda name=name: load_goal_image(folder / name, 32), name)


def stale_plans(tally: Tally, lab: Lab) -> None:
    """Two episodes of one agent are those of two agents; another number of episodes needs a reset."""
    import numpy as np

    def episode(who: Any, seed: int) -> Any:
        who.reset(pictures(2, seed), [seed, seed + 1])
        proprio = np.zeros((2, 4), np.float32)
        return np.stack([who.act({"pixels": pictures(2, seed + n), "proprio": proprio}) for n in range(3)])

    used = agent(lab)
    for seed in (1, 2, 3):
        tally.holds(bool((episode(used, seed) == episode(agent(lab), seed)).all()), f"episode {seed} remembers another")
    tally.refused(
        "act before reset",
        lambda: agent(lab).act({"pixels": pictures(1), "proprio": np.zeros((1, 4), np.float32)}),
        "reset",
    )
    bad = {"pixels": pictures(2), "proprio": np.full((2, 4), np.nan, np.float32)}
    tally.refused("proprioception of NaN", lambda: (used.reset(pictures(2), [0, 1]), used.act(bad)), "finite")


def out_of_memory(tally: Tally, lab: Lab) -> None:
    """Memory for `room` candidates at once: the rest in smaller parts, the same costs; other errors pass."""
    import torch

    from worldmodel.candidates import Chunked

    actions = torch.randn(2, 37, 4, 3, generator=seeded(43))
    for kind in (torch.OutOfMemoryError, MemoryError):
        for room in (0, 1, 2, 5, 36, 37):

            def cost(part: Any, room: int = room, kind: Any = kind) -> Any:
                if part.shape[1] > room:
                    raise kind("no memory")
                return distance(part)

            call = partial(Chunked(cost, 1000), actions)
            if room == 0:
                tally.refused(f"{kind.__name__}, no room at all", call, "memory")
            else:
                tally.holds(torch.allclose(call(), distance(actions), atol=1e-5), f"{kind.__name__}, room for {room}")

    def other(part: Any) -> Any:
        raise ZeroDivisionError

    try:
        Chunked(other, 8)(actions)
        tally.count("silent", "another error")
    except ZeroDivisionError:
        tally.count("detected")


FAULTS = (
    Fault(38, "some costs NaN, +inf, -inf", "never elected; the plan is finite", broken_costs, guards=("rank_finite",)),
    Fault(39, "no cost is finite", "an error; nothing reaches the robot", only_broken),
    Fault(
        40, "impossible settings of a planner; the edges of the legal", "refused; finite plans at the edges", settings
    ),
    Fault(41, "boxes that are none; starts outside the box", "refused; everything inside, exactly", boxes),
    Fault(42, "huge and tied costs", "finite weights and plans", huge_costs),
    Fault(43, "out of memory in a rollout of candidates", "smaller parts, the same costs", out_of_memory),
    Fault(44, "goals of another size, type, range, channels; bad files", "refused in one line", goals),
    Fault(45, "warm start left from another episode", "an agent forgets at reset", stale_plans),
    Fault(46, "the same seed twice, other random state", "the same plan, bit for bit", same_again),
)
