"""DmcReacher: dm_control's two-link planar arm, driven by torques to where the goal image shows it.

The task by which published world models are compared (DINO-WM, arXiv 2411.04983; LeWorldModel, arXiv 2603.19312): start
and goal are two pictures of one logged trajectory, 25 environment steps apart; there is a budget of 50 steps.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.errors import SceneError
from envs.exploration import OrnsteinUhlenbeck
from envs.goal_env import Policy
from envs.simulated import SimulatedEnv
from envs.visuals import Visuals

Array = NDArray[Any]

CAMERA = "fixed"
JOINTS = ("shoulder", "wrist")
AHEAD = 25  # environment steps from start to goal
LOGGED = 75  # of a log, the steps before the last possible start
LINK = 0.12  # [m] length of either link
TOLERANCE = 0.05  # [rad] of every joint, as in stable-worldmodel's qpos_match
CORNERS = tuple((x, y) for x in (-0.25, 0.25) for y in (-0.25, 0.25))  # [m] out of the arm's reach
FASTEST = 20.0  # [rad/s] a velocity that the arm never gets to


class DmcReacher(SimulatedEnv):
    """Success: both joints within 0.05 rad of the goal. Budget: 50 environment steps of 0.02 s.

    Actions: torques of shoulder and wrist, 1.0 is 0.05 N m. Proprioception: x, y [m] of the finger, cosine and sine of
    either angle, both velocities [rad/s]. The distance is the larger error of a joint, as the way [m] that the end of
    a link 0.12 m long goes, whole turns left out. A log is random motion from a random pose; a start may be moving.
    dm_control's own target is not shown: the goal image is all that tells the goal.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (gymnasium's own name)
    task_name = "dmc_reacher"
    budget = 50
    success_radius = TOLERANCE * LINK

    def __init__(
        self,
        image_size: int = 128,
        randomize_visuals: float = 0.0,
        keep_out: float = 0.0,
        shift: str | None = None,
        render_mode: str | None = "rgb_array",
    ) -> None:
        """There is nothing to keep out of: `keep_out` must be 0. Raises SceneError."""
        if keep_out:
            raise SceneError(f"expected no box to keep out of for dmc_reacher, got keep_out {keep_out}: leave it at 0")
        super().__init__(image_size, randomize_visuals, render_mode, shift)
        high = np.array([0.3, 0.3, 1.01, 1.01, 1.01, 1.01, FASTEST, FASTEST])
        self._make_spaces(image_size, len(JOINTS), -high, high, keep_out=0)
        self._goal_position = np.zeros(len(JOINTS))

    def _build_model(self) -> mujoco.MjModel:
        scene = mujoco.MjSpec.from_file(str(_suite_folder() / "reacher.xml"))
        scene.geom("target").rgba = [0.0, 0.0, 0.0, 0.0]
        return scene.compile()

    def _make_visuals(self, model: mujoco.MjModel) -> Visuals:
        return Visuals(
            model,
            CAMERA,
            objects=("arm", "hand", "finger"),
            surfaces=("ground",),
            beside=CORNERS,
            bulk=0.02,
            sway=0.04,
        )

    def get_state(self) -> Array:
        return self._physics.get_state()

    def set_state(self, state: Array) -> None:
        self._physics.set_state(state)

    def position(self) -> Array:
        """Angles of the joints [2] [rad]."""
        return np.array(self._physics.data.qpos)

    def _proprio(self) -> Array:
        finger, angles = self._physics.data.geom("finger").xpos[:2], self.position()
        turned = np.stack([np.cos(angles), np.sin(angles)], axis=-1).ravel()
        return np.concatenate([finger, turned, np.clip(self._physics.data.qvel, -FASTEST, FASTEST)]).astype(np.float32)

    def _place_arm(self, angles: Array) -> None:
        """Put the arm, at rest, with its joints at `angles` [2] [rad]."""
        self._physics.reset()
        self._physics.data.qpos[:] = angles
        self._physics.forward()

    def _begin(self, explore: bool) -> None:
        if not explore:
            self._begin_in_log(AHEAD)
            return
        rng = self.np_random
        self._draw_look(int(rng.integers(2**31)))
        low, high = self._physics.model.joint(JOINTS[1]).range
        self._place_arm(np.array([rng.uniform(-np.pi, np.pi), rng.uniform(low, high)]))
        policy = self.exploration_policy(rng)
        for _ in range(int(rng.integers(LOGGED + 1))):
            self._advance(policy())

    def _advance(self, action: Array) -> None:
        self._physics.data.ctrl[:] = action
        self._physics.step()
        self._physics.update_poses()

    def project(self, points: Array) -> Array:
        """Of points [N,P], the first two numbers are taken, as a place on the ground: a pose may be given as it is."""
        points = np.asarray(points, dtype=np.float64)
        return super().project(np.pad(points[:, :2], ((0, 0), (0, 1))))

    def distance(self) -> float:
        return float(self._way(self.position()))

    def _way(self, angles: Array) -> Array:
        """The larger error [...] [m] of angles [...,2] [rad]."""
        turned = np.remainder(angles - self._goal_position + np.pi, 2 * np.pi) - np.pi
        return np.asarray(LINK * np.abs(turned).max(axis=-1))

    def evaluate_plans(self, actions: Array) -> Array:
        controls = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        positions, sound = self._physics.rollout(controls, 1)
        return np.where(sound, self._way(positions), np.inf)

    def exploration_policy(self, rng: np.random.Generator) -> Policy:
        return OrnsteinUhlenbeck(rng, len(JOINTS))


def _suite_folder() -> Path:
    """Where the installed dm_control keeps its suite; the model is used in place, not copied."""
    found = importlib.util.find_spec("dm_control")
    if found is None or not found.submodule_search_locations:
        raise SceneError("expected the package dm_control, which holds the reacher, got none: pip install dm-control")
    return Path(next(iter(found.submodule_search_locations))) / "suite"
