"""End-effector poses and the actions between them, as V-JEPA 2-AC writes both.

A pose [...,7] is x, y, z [m], three extrinsic xyz Euler angles [rad] and the gripper's closedness (0 open, 1 closed) in
the frame of the robot's base; an action [...,7] is the change of each: R_next = R_action R_pose for the rotation
(Assran et al. 2025, arXiv 2506.09985, section 3.1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.errors import WorldModelError


def integrate_pose(pose: Tensor, action: Tensor) -> Tensor:
    """The pose [...,7] after an action [...,7] from pose [...,7]; the gripper stays within 0 and 1.

    Leading dimensions broadcast. Angles are returned within (-pi, pi], the middle one within -pi/2 and pi/2. Raises
    WorldModelError for another number of entries.
    """
    _check(pose=pose, action=action)
    turned = _multiply(_quaternion(action[..., 3:6]), _quaternion(pose[..., 3:6]))
    gripper = (pose[..., 6:] + action[..., 6:]).clamp(0.0, 1.0)
    return torch.cat([pose[..., :3] + action[..., :3], _euler(turned), gripper], dim=-1)


def pose_difference(pose: Tensor, following: Tensor) -> Tensor:
    """The action [...,7] that leads from pose [...,7] to the following pose [...,7]: the inverse of `integrate_pose`.

    Raises WorldModelError for another number of entries.
    """
    _check(pose=pose, following=following)
    inverse = _quaternion(pose[..., 3:6]) * pose.new_tensor([1.0, -1.0, -1.0, -1.0])
    turned = _multiply(_quaternion(following[..., 3:6]), inverse)
    change = following - pose
    return torch.cat([change[..., :3], _euler(turned), change[..., 6:]], dim=-1)


def _check(**poses: Tensor) -> None:
    for name, value in poses.items():
        if value.dim() == 0 or value.shape[-1] != 7 or not value.is_floating_point():
            got = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
            raise WorldModelError(f"expected {name} as floats [...,7], got {got}: give x, y, z, three angles, gripper")


def _quaternion(angles: Tensor) -> Tensor:
    """Extrinsic xyz Euler angles [...,3] -> unit quaternion (w, x, y, z) [...,4]: about x first, then y, then z."""
    cx, cy, cz = (angles / 2).cos().unbind(-1)
    sx, sy, sz = (angles / 2).sin().unbind(-1)
    return torch.stack(
        [
            cx * cy * cz + sx * sy * sz,
            sx * cy * cz - cx * sy * sz,
            cx * sy * cz + sx * cy * sz,
            cx * cy * sz - sx * sy * cz,
        ],
        dim=-1,
    )


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Quaternion product: the rotation `right`, then `left`."""
    a, b, c, d = left.unbind(-1)
    w, x, y, z = right.unbind(-1)
    return torch.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        dim=-1,
    )


def _euler(quaternion: Tensor) -> Tensor:
    """Unit quaternion [...,4] -> extrinsic xyz angles [...,3] (Bernardes and Viollet 2022, PLoS ONE 17(11), e0276302).

    Where x and z turn about the same axis (the middle angle is +-pi/2) only their sum or difference is defined: the
    undefined one of the two counts as zero, and so does its gradient.
    """
    w, x, y, z = quaternion.unbind(-1)
    a, b, c, d = w - y, x + z, y + w, z - x
    near, far = _safe(a, b), _safe(c, d)
    half_sum, half_difference = torch.atan2(near[1], near[0]), torch.atan2(far[1], far[0])
    middle = 2 * torch.atan2(far[2], near[2]) - torch.pi / 2
    angles = torch.stack([half_sum - half_difference, middle, half_sum + half_difference], dim=-1)
    # Only the outer two can leave the half-open circle.
    return torch.where(angles.abs() > torch.pi, angles - 2 * torch.pi * angles.sign(), angles)


def _safe(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A vector's two entries and its length, replaced by (1, 0) and 0 where it vanishes and has no direction."""
    vanishes = cosine.square() + sine.square() < torch.finfo(cosine.dtype).eps ** 2
    cosine, sine = torch.where(vanishes, 1.0, cosine), torch.where(vanishes, 0.0, sine)
    length = torch.where(vanishes, 0.0, (cosine.square() + sine.square()).sqrt())
    return cosine, sine, length
