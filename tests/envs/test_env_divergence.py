"""A world that falls apart says so; MuJoCo's silent fresh start is off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from env_worlds import draw, roll, same

from envs.errors import PhysicsDiverged
from envs.physics import Physics

PENDULUM = """<mujoco><worldbody><body><joint name="hinge" type="hinge" axis="0 1 0"/>
<geom type="capsule" size=".02" fromto="0 0 0 .3 0 0"/></body></worldbody>
<actuator><motor joint="hinge"/></actuator></mujoco>"""
HARM = {
    "nan position": ("qpos", 0, np.nan),
    "nan velocity": ("qvel", -1, np.nan),
    "infinite velocity": ("qvel", 0, np.inf),
    "huge position": ("qpos", 1, 1e12),
    "huge velocity": ("qvel", 0, 1e12),
    "velocity that becomes huge": ("qvel", 1, 1e9),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file where it is


def harm(world: Any, kind: str) -> tuple[str, int]:
    field, index, value = HARM[kind]
    getattr(world._physics.data, field)[index] = value
    return field, index


@pytest.mark.parametrize("kind", HARM)
def test_divergence_is_reported_and_the_world_does_not_start_anew(env: Any, world: Any, kind: str) -> None:
    env.reset(seed=0)
    roll(world, draw(world, 2, seed=0))
    field, index = harm(world, kind)
    time = world._physics.data.time
    hold = np.zeros(world.action_space.shape, np.float32)
    for _ in range(2):  # and it stays diverged
        observation, reward, terminated, truncated, info = world.step(hold)
        assert (terminated, truncated, info["diverged"], info["success"]) == (True, False, True, False)
        assert np.isnan(info["distance"])
        assert reward == 0.0
        assert observation["pixels"].shape == (128, 128, 3)
    assert world._physics.data.time >= time > 0.0
    value = getattr(world._physics.data, field)[index]
    assert not abs(value) < 1e5  # neither MuJoCo nor anyone else put it right


@pytest.mark.parametrize("kind", HARM)
def test_the_next_episode_is_as_good_as_new(env: Any, world: Any, kind: str) -> None:
    explore = {"explore": True}  # without a goal to be built, the episode starts sooner
    expected = env.reset(seed=1, options=explore), roll(world, draw(world, 3, seed=1))
    env.reset(seed=0, options=explore)
    harm(world, kind)
    assert world.step(np.zeros(world.action_space.shape, np.float32))[4]["diverged"]
    assert same((env.reset(seed=1, options=explore), roll(world, draw(world, 3, seed=1))), expected)


def test_a_restored_state_has_not_diverged(env: Any, world: Any) -> None:
    env.reset(seed=0)
    state = world.get_state()
    expected = roll(world, draw(world, 2, seed=0))
    world.set_state(state)
    harm(world, "nan velocity")
    assert world.step(np.zeros(world.action_space.shape, np.float32))[2]
    world.set_state(state)
    assert same(roll(world, draw(world, 2, seed=0)), expected)


def test_the_silent_reset_is_off(world: Any) -> None:
    assert world._physics.model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET


@pytest.fixture
def pendulum() -> Physics:
    physics = Physics(mujoco.MjModel.from_xml_string(PENDULUM))
    physics.step(10)
    return physics


@pytest.mark.parametrize(("field", "value"), [("qpos", np.nan), ("qvel", np.inf), ("qvel", 1e12), ("ctrl", np.nan)])
def test_a_step_into_divergence_raises_one_line(pendulum: Physics, field: str, value: float) -> None:
    getattr(pendulum.data, field)[0] = value
    with pytest.raises(PhysicsDiverged, match=r"^expected finite .*, got .* reset the environment$"):
        pendulum.step()
    assert pendulum.data.time > 0.01


def test_divergence_between_two_checks_is_found(pendulum: Physics) -> None:
    pendulum.data.qvel[0] = 1e12
    with pytest.raises(PhysicsDiverged):
        pendulum.step(5)


def test_time_that_stands_still_is_divergence(pendulum: Physics) -> None:
    with pytest.raises(PhysicsDiverged):
        pendulum.check(pendulum.data.time)
    pendulum.check(pendulum.data.time - 0.001)


@pytest.mark.parametrize("how", ["set_state", "reset"])
def test_a_fresh_state_clears_the_warnings(pendulum: Physics, how: str) -> None:
    good = pendulum.get_state()
    pendulum.step(20)
    expected = pendulum.get_state()
    pendulum.data.qvel[0] = 1e12
    with pytest.raises(PhysicsDiverged):
        pendulum.step()
    pendulum.set_state(good) if how == "set_state" else pendulum.reset()
    assert not any(warning.number for warning in pendulum.data.warning)
    pendulum.step(20)
    assert (how == "set_state") == same(pendulum.get_state(), expected)


def test_poses_follow_the_state_only_after_an_update(pendulum: Physics) -> None:
    pendulum.data.qvel[0] = 1.0
    pendulum.step()
    stale, state = pendulum.data.geom_xpos.copy(), pendulum.get_state()
    pendulum.update_poses()
    fresh = pendulum.data.geom_xpos.copy()
    assert not same(stale, fresh)
    assert same(pendulum.get_state(), state)
    pendulum.set_state(state)
    assert same(pendulum.data.geom_xpos.copy(), fresh)
