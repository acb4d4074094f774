"""Simulated worlds behind gymnasium: importing this package registers their ids under `worldmodel/`."""

from __future__ import annotations

import gymnasium

from envs.errors import EnvError, PhysicsDiverged, RenderError, SceneError

TASKS = {
    "worldmodel/JacoReach-v0": ("envs.arm.reach:JacoReach", 15),
    "worldmodel/JacoPush-v0": ("envs.arm.push:JacoPush", 30),
    "worldmodel/JacoRearrange-v0": ("envs.arm.rearrange:JacoRearrange", 60),
    "worldmodel/JacoPlace-v0": ("envs.arm.place:JacoPlace", 40),
    "worldmodel/Navigate-v0": ("envs.navigation.navigate:Navigate", 60),
    "worldmodel/DmcReacher-v0": ("envs.dmc_reacher:DmcReacher", 50),
}

for _id, (_entry, _budget) in TASKS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_entry, max_episode_steps=_budget)

__all__ = ["TASKS", "EnvError", "PhysicsDiverged", "RenderError", "SceneError"]
