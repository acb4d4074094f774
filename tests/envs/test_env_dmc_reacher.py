"""The published reacher: whose dynamics, which goals, and what counts as reached."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from env_worlds import draw, episodes, same

from benchmarks.protocol import PROTOCOL
from envs.dmc_reacher import AHEAD, LINK, TOLERANCE
from envs.errors import SceneError

REACHER = "worldmodel/DmcReacher-v0"


@pytest.fixture(scope="module")
def reacher() -> Iterator[Any]:
    made = gymnasium.make(REACHER)
    yield made.unwrapped
    made.close()


def test_it_moves_as_dm_controls_own(reacher: Any) -> None:
    path = Path(find_spec("dm_control").submodule_search_locations[0]) / "suite" / "reacher.xml"  # type: ignore
    model = mujoco.MjModel.from_xml_path(str(path))
    data = mujoco.MjData(model)
    reacher.reset(seed=0)
    data.qpos[:], data.qvel[:] = reacher._physics.data.qpos, reacher._physics.data.qvel
    for action in draw(reacher, 40, seed=0):
        observation = reacher.step(action)[0]
        data.ctrl[:] = action
        mujoco.mj_step(model, data)
        np.testing.assert_allclose(reacher.position(), data.qpos, atol=1e-6)
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(observation["proprio"][:2], data.geom("finger").xpos[:2], atol=1e-6)


def test_the_protocol_is_the_published_one(reacher: Any) -> None:
    (rule,) = (rule for rule in PROTOCOL.tasks if rule.id == REACHER)
    assert (rule.budget, rule.step_unit) == (reacher.budget, "environment step")
    assert (AHEAD, reacher.budget) == (25, 50)
    assert reacher._physics.model.opt.timestep == 0.02
    assert reacher.metadata["render_fps"] == 50


def test_the_goal_can_be_reached_in_half_the_budget(reacher: Any) -> None:
    """The log that made the goal reaches it: replayed from the start, by whoever knows its actions."""
    for seed in range(100_000, 100_003):
        reacher.reset(seed=seed)
        accepted, goal = reacher.get_state(), reacher._goal_position.copy()
        reacher.reset(seed=seed, options={"explore": True})
        while not same(reacher.get_state(), accepted):  # a log that ended where it began
            policy = reacher.exploration_policy(reacher.np_random)
            for _ in range(AHEAD):
                policy()
            reacher.reset(options={"explore": True})
        policy = reacher.exploration_policy(reacher.np_random)
        for _ in range(AHEAD):
            reacher.step(policy())
        assert same(reacher.position(), goal)


@pytest.mark.parametrize(
    ("errors", "reached"),
    [
        ((0.049, -0.049), True),
        ((0.051, 0.0), False),
        ((0.0, -0.051), False),
        ((2 * np.pi, 0.0), True),  # a picture does not tell whole turns
        ((np.pi, 0.0), False),
    ],
)
def test_reached_is_both_joints_within_the_tolerance(reacher: Any, errors: tuple[float, float], reached: bool) -> None:
    reacher.reset(seed=1)
    reacher._place_arm(reacher._goal_position + errors)
    assert reacher.success() is reached
    assert reacher.success_radius == TOLERANCE * LINK


def test_starts_come_from_the_middle_of_logs_and_the_target_is_not_shown(reacher: Any) -> None:
    speeds = np.stack([observation["proprio"][6:] for observation, *_ in episodes(REACHER)])
    assert np.abs(speeds).max() > 1.0
    reacher.reset(seed=0)
    assert reacher.visible_pixels("target") == 0
    assert reacher.visible_pixels("hand") > 20


def test_a_box_to_keep_out_of_is_refused() -> None:
    with pytest.raises(SceneError, match="expected no box to keep out of for dmc_reacher"):
        gymnasium.make(REACHER, keep_out=0.1)
