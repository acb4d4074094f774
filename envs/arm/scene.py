"""The table-top scene: dm_control's Kinova Jaco arm and hand, a table, a camera and, for some tasks, objects."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from envs.errors import SceneError
from envs.simulated import empty_scene

TIMESTEP = 0.005  # [s]
BASE = (0.0, -0.34, 0.0)  # [m] the arm stands at the back edge of the table
ARM_JOINTS = tuple(f"joint_{i}" for i in range(1, 7))
FINGERS = tuple(f"hand/finger_{i}" for i in (1, 2, 3))
PINCH = "hand/pinchsite"
CAMERA = "front"
BESIDE = tuple(
    (side * x, y) for side in (-1, 1) for x, y in ((0.27, 0.0), (0.28, 0.1), (0.27, 0.2))
)  # [m] on the table
CUBE_HALF = 0.035  # [m]
CUP_RADIUS, CUP_HALF = 0.035, 0.045  # [m]
PLATFORM, PLATFORM_HALF, PLATFORM_TOP = (0.13, 0.13), 0.06, 0.06  # [m] its middle, half its side, its height
# Stiffness and damping of the position servos, large joints then small ones.
SERVO_KP = (4000.0,) * 3 + (1500.0,) * 3
SERVO_KV = (130.0,) * 3 + (55.0,) * 3
TORQUE = (40.0,) * 3 + (20.0,) * 3  # [N m] the arm yields instead of crushing an object under it
ARMATURE = (1.0,) * 3 + (0.5,) * 3  # [kg m^2] chosen for a critically damped servo that settles within a decision
TOUCH = 1  # collision bit of everything that may touch: hand, fingers, table, objects


def kinova_folder() -> Path:
    """Where the installed dm_control keeps the arm's meshes; they are used in place, not copied."""
    found = importlib.util.find_spec("dm_control")
    if found is None or not found.submodule_search_locations:
        raise SceneError("expected the package dm_control, which holds the Jaco arm, got none: pip install dm-control")
    return Path(next(iter(found.submodule_search_locations))) / "third_party" / "kinova"


def _robot() -> mujoco.MjSpec:
    folder = kinova_folder()
    arm = mujoco.MjSpec.from_file(str(folder / "jaco_arm.xml"))
    hand = mujoco.MjSpec.from_file(str(folder / "jaco_hand.xml"))
    for spec in (arm, hand):
        spec.meshdir = str(folder / "meshes_decimated")
    arm.attach(hand, site=arm.site("wristsite"), prefix="hand/")
    return arm


def _touching(geom: mujoco.MjsGeom) -> None:
    geom.contype, geom.conaffinity = TOUCH, TOUCH


def _prepare_robot(scene: mujoco.MjSpec) -> None:
    for body in scene.bodies:
        body.gravcomp = 1.0 if body.name.startswith(("b_", "hand/")) else 0.0
    for geom in scene.geoms:
        geom.contype, geom.conaffinity = 0, 0
        if geom.name.startswith("hand/"):
            _touching(geom)
    for name, kp, kv, torque, armature in zip(ARM_JOINTS, SERVO_KP, SERVO_KV, TORQUE, ARMATURE, strict=True):
        scene.joint(name).armature, scene.joint(name).frictionloss = armature, 0.0
        scene.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            gainprm=[kp, *[0.0] * 9],
            biasprm=[0.0, -kp, -kv, *[0.0] * 7],
            forcelimited=True,
            forcerange=[-torque, torque],
        )
    for name in FINGERS:
        scene.add_actuator(
            name=name,
            target=name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            gainprm=[8.0, *[0.0] * 9],
            biasprm=[0.0, -8.0, -0.4, *[0.0] * 7],
            forcelimited=True,
            forcerange=[-2.0, 2.0],
        )


def _furnish(scene: mujoco.MjSpec) -> None:
    world = scene.worldbody
    floor = world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.6, 0.55, 0.02], pos=[0, 0.1, -0.02])
    floor.rgba, floor.friction = [0.80, 0.77, 0.72, 1.0], [0.6, 0.005, 0.0001]
    _touching(floor)
    ground = world.add_geom(name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, -0.6])
    ground.rgba, ground.contype, ground.conaffinity = [0.32, 0.35, 0.38, 1.0], 0, 0
    world.add_light(name="key", pos=[0.5, 0.8, 1.8], dir=[-0.3, -0.4, -1.0], diffuse=[0.7] * 3, specular=[0.1] * 3)
    eye, target = np.array([0.0, 0.88, 0.80]), np.array([0.0, 0.09, 0.05])
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, up, back], axis=1).ravel())
    world.add_camera(name=CAMERA, pos=eye.tolist(), quat=quaternion.tolist(), fovy=36.0)


def add_cube(scene: mujoco.MjSpec, name: str = "cube", rgba: tuple[float, ...] = (0.80, 0.16, 0.14, 1.0)) -> None:
    """A free 7 cm cube of 0.12 kg."""
    body = scene.worldbody.add_body(name=name, pos=[0.0, 0.12, CUBE_HALF])
    body.add_freejoint(name=name)
    geom = body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[CUBE_HALF] * 3, mass=0.12)
    geom.rgba, geom.friction = list(rgba), [0.6, 0.005, 0.0001]
    _touching(geom)


def add_cup(scene: mujoco.MjSpec) -> None:
    """A free cup of 7 cm across, 9 cm high and 0.1 kg, and the platform."""
    world, cylinder = scene.worldbody, mujoco.mjtGeom.mjGEOM_CYLINDER
    scene.option.impratio = 10.0  # friction that does not creep holds the cup between the fingers
    platform = world.add_geom(name="platform", type=mujoco.mjtGeom.mjGEOM_BOX)
    platform.size, platform.pos = [PLATFORM_HALF, PLATFORM_HALF, PLATFORM_TOP / 2], [*PLATFORM, PLATFORM_TOP / 2]
    platform.rgba, platform.friction = [0.42, 0.47, 0.55, 1.0], [0.6, 0.005, 0.0001]
    _touching(platform)
    body = world.add_body(name="cup", pos=[-0.1, 0.13, CUP_HALF])
    body.add_freejoint(name="cup")
    cup = body.add_geom(name="cup", type=cylinder, size=[CUP_RADIUS, CUP_HALF, 0.0], mass=0.1, condim=6)
    cup.rgba, cup.friction = [0.10, 0.60, 0.38, 1.0], [1.0, 0.005, 0.003]  # one that fell over does not roll for ever
    _touching(cup)
    inside = body.add_geom(type=cylinder, size=[0.85 * CUP_RADIUS, 0.001, 0.0], pos=[0.0, 0.0, CUP_HALF], mass=0.0)
    inside.rgba, inside.contype, inside.conaffinity = [0.16, 0.10, 0.07, 1.0], 0, 0


def balance_fingers(scene: mujoco.MjSpec) -> None:
    """Make the one finger as strong as the two against it, and none so stiff that its force saturates at a cup."""
    for name, kp, torque in zip(FINGERS, (10.0, 5.0, 5.0), (6.0, 3.0, 3.0), strict=True):
        finger = scene.actuator(name)
        finger.gainprm[0], finger.biasprm[1:3], finger.forcerange = kp, [-kp, -0.05 * kp], [-torque, torque]


def build_model(add_objects: Callable[[mujoco.MjSpec], None] | None = None) -> mujoco.MjModel:
    """Compile the scene with the arm, the table, the camera and whatever `add_objects` puts on the table."""
    scene = empty_scene("jaco_table", TIMESTEP)
    frame = scene.worldbody.add_frame(pos=list(BASE))
    scene.attach(_robot(), frame=frame, prefix="")
    _prepare_robot(scene)
    _furnish(scene)
    if add_objects is not None:
        add_objects(scene)
    return scene.compile()
