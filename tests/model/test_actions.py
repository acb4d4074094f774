from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from worldmodel.actions import integrate_pose, pose_difference
from worldmodel.errors import WorldModelError

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vjepa2_pose_golden.npz"


def golden(name: str) -> Tensor:
    with np.load(GOLDEN) as arrays:
        return torch.from_numpy(arrays[name])


def poses(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, 7, generator=generator, dtype=torch.float64) * 2 - 1
    return values * torch.tensor([1, 1, 1, 3.14, 1.57, 3.14, 0]) + torch.tensor([0, 0, 0, 0, 0, 0, 0.5])


def test_the_next_pose_is_that_of_the_public_code() -> None:
    got = integrate_pose(golden("pose"), golden("action"))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, golden("next_pose"), atol=1e-5, rtol=0)


def test_the_action_between_two_poses_is_that_of_the_public_code() -> None:
    got = pose_difference(golden("pose"), golden("next_pose"))
    torch.testing.assert_close(got.double(), golden("recovered_action"), atol=1e-5, rtol=0)


def test_rotations_compose_as_matrices_do() -> None:
    pose, action = poses(500, 0), poses(500, 1)
    got = integrate_pose(pose, action)[:, 3:6].numpy()
    wanted = Rotation.from_euler("xyz", action[:, 3:6].numpy()) * Rotation.from_euler("xyz", pose[:, 3:6].numpy())
    np.testing.assert_allclose(Rotation.from_euler("xyz", got).as_matrix(), wanted.as_matrix(), atol=1e-12)
    assert np.abs(got[:, [0, 2]]).max() <= np.pi
    assert np.abs(got[:, 1]).max() <= np.pi / 2
    np.testing.assert_allclose(got, wanted.as_euler("xyz"), atol=1e-9)


def test_the_difference_undoes_the_integration() -> None:
    pose, action = poses(500, 2), poses(500, 3)
    action[:, 6] = 0.25
    torch.testing.assert_close(pose_difference(pose, integrate_pose(pose, action)), action, atol=1e-9, rtol=0)


def test_leading_dimensions_broadcast_and_the_gripper_stays_in_its_range() -> None:
    pose, action = golden("pose")[:2, None, None], golden("action")[:30].reshape(1, 5, 6, 7)
    got = integrate_pose(pose, action)
    assert got.shape == (2, 5, 6, 7)
    torch.testing.assert_close(got[1, 2, 3], integrate_pose(pose[1, 0, 0], action[0, 2, 3]))
    wide = integrate_pose(torch.zeros(2, 7), torch.tensor([[0.0] * 6 + [2.0], [0.0] * 6 + [-2.0]]))
    assert wide[:, 6].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("middle", [np.pi / 2, -np.pi / 2])
def test_where_two_axes_coincide_the_rotation_is_right_and_gradients_are_finite(middle: float) -> None:
    pose = torch.tensor([0, 0, 0, 0.4, middle, -0.3, 0], dtype=torch.float64)
    action = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    got = integrate_pose(pose, action)
    got.sum().backward()
    assert action.grad is not None
    assert bool(torch.isfinite(action.grad).all())
    same = [Rotation.from_euler("xyz", angles).as_matrix() for angles in (got[3:6].detach().numpy(), pose[3:6].numpy())]
    np.testing.assert_allclose(same[0], same[1], atol=1e-7)


def test_gradients_reach_every_entry_of_the_action() -> None:
    pose, action = poses(8, 4), (0.1 * poses(8, 5)).requires_grad_()
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    (integrate_pose(pose, action) * weights).sum().backward()
    assert action.grad is not None
    assert bool((action.grad != 0).all())


@pytest.mark.parametrize("wrong", [torch.zeros(2, 6), torch.tensor(1.0), torch.zeros(2, 7, dtype=torch.int64)])
def test_anything_but_seven_numbers_is_refused(wrong: Tensor) -> None:
    for function in (integrate_pose, pose_difference):
        with pytest.raises(WorldModelError, match=r"as floats \[\.\.\.,7\], got"):
            function(torch.zeros(2, 7), wrong)
        with pytest.raises(WorldModelError, match="expected pose as floats"):
            function(wrong, torch.zeros(2, 7))
