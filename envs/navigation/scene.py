"""Two rooms joined by a doorway, a robot with two driven wheels, and a camera above them."""

from __future__ import annotations

import mujoco

from envs.simulated import empty_scene

TIMESTEP = 0.005  # [s]
CAMERA = "above"
HALF = 1.2  # [m] the rooms together are a square of twice this side
WALL, BORDER, HEIGHT = 0.03, 0.15, 0.12  # [m] half the thickness of the inner wall, of the outer ones; their height
DOORWAY = 0.25  # [m] half its width; it is in the middle of the wall at x = 0
CORNERS = tuple((x, y) for x in (-1.1, 1.1) for y in (-1.1, 1.1))  # [m] places in them that the robot hardly covers
RADIUS = 0.15  # [m] of the robot
WHEEL, TRACK = 0.05, 0.10  # [m] radius of a wheel, and its distance from the robot's middle
WHEELS = ("wheel_left", "wheel_right")
ROOMS = ("floor_left", "floor_right")
BUMPER, GROUND = 1, 2  # collision bits: the robot's body meets walls, its wheels and castors meet the floor


def _add_rooms(scene: mujoco.MjSpec) -> None:
    world = scene.worldbody
    for name, side, rgba in zip(ROOMS, (-1, 1), ([0.78, 0.74, 0.66, 1.0], [0.62, 0.70, 0.72, 1.0]), strict=True):
        floor = world.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, size=[HALF / 2, HALF, 0.02])
        floor.pos, floor.rgba, floor.contype, floor.conaffinity = [side * HALF / 2, 0.0, -0.02], rgba, 0, 0
    ground = world.add_geom(name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[HALF, HALF, 0.1])
    ground.rgba, ground.friction = [0.0, 0.0, 0.0, 0.0], [1.0, 0.005, 0.0001]
    ground.contype, ground.conaffinity = GROUND, GROUND
    long, jamb = HALF + 2 * BORDER, (HALF - DOORWAY) / 2
    walls = [([BORDER, long], [side * (HALF + BORDER), 0.0]) for side in (-1, 1)]
    walls += [([HALF, BORDER], [0.0, side * (HALF + BORDER)]) for side in (-1, 1)]
    walls += [([WALL, jamb], [0.0, side * (DOORWAY + jamb)]) for side in (-1, 1)]
    for size, place in walls:
        wall = world.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[*size, HEIGHT / 2], pos=[*place, HEIGHT / 2])
        wall.rgba, wall.friction = [0.48, 0.49, 0.53, 1.0], [0.1, 0.005, 0.0001]
        wall.contype, wall.conaffinity = BUMPER, BUMPER


def _add_robot(scene: mujoco.MjSpec) -> None:
    robot = scene.worldbody.add_body(name="robot", pos=[0.0, 0.0, WHEEL])
    robot.add_freejoint(name="robot")
    body = robot.add_geom(name="robot", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=[RADIUS, 0.03, 0.0], mass=3.0)
    body.pos, body.rgba, body.friction = [0.0, 0.0, 0.05], [0.85, 0.33, 0.10, 1.0], [0.1, 0.005, 0.0001]
    body.contype, body.conaffinity = BUMPER, BUMPER
    nose = robot.add_geom(name="nose", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.05, 0.04, 0.01], mass=0.05)
    nose.pos, nose.rgba, nose.contype, nose.conaffinity = [0.09, 0.0, 0.085], [0.98, 0.98, 0.95, 1.0], 0, 0
    for end in (-1, 1):  # castors slide; they hang a hair above the floor, which the wheels touch
        castor = robot.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.02, 0.0, 0.0], mass=0.1, condim=1, priority=1
        )
        castor.pos, castor.contype, castor.conaffinity = [end * 0.10, 0.0, 0.0205 - WHEEL], GROUND, GROUND
    for name, side in zip(WHEELS, (1, -1), strict=True):
        wheel = robot.add_body(name=name, pos=[0.0, side * TRACK, 0.0])
        wheel.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0.0, 1.0, 0.0], armature=0.002)
        tyre = wheel.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[WHEEL, 0.0, 0.0], mass=0.15)
        tyre.rgba = [0.1, 0.1, 0.1, 1.0]
        tyre.contype, tyre.conaffinity, tyre.friction = GROUND, GROUND, [1.0, 0.005, 0.0001]
        motor = scene.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_velocity(kv=0.5)
        motor.forcelimited, motor.forcerange = True, [-0.6, 0.6]


def build_model() -> mujoco.MjModel:
    """Compile the scene."""
    scene = empty_scene("two_rooms", TIMESTEP)
    _add_rooms(scene)
    _add_robot(scene)
    world = scene.worldbody
    world.add_light(name="key", pos=[0.8, 0.6, 3.0], dir=[-0.25, -0.2, -1.0], diffuse=[0.6] * 3, specular=[0.1] * 3)
    world.add_camera(name=CAMERA, pos=[0.0, 0.0, 5.0], quat=[1.0, 0.0, 0.0, 0.0], fovy=29.5)
    return scene.compile()
