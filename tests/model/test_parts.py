"""The trained parts: shapes, closed-form fits, and what the losses reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import tiny_model

from worldmodel.belief import Belief
from worldmodel.energy import Goal, GoalEnergy, latent_distance
from worldmodel.errors import WorldModelError
from worldmodel.predictor import CompactPredictor, Fourier, Kinematics
from worldmodel.projector import CompactProjector, FeatureNorm, IdentityProjector
from worldmodel.rollout import rollout
from worldmodel.training.losses import covariance_penalty, dependence


def test_kinematics_learns_the_action_scale_and_the_walls() -> None:
    generator = torch.Generator().manual_seed(0)
    gain = torch.tensor([[0.06, 0.0], [0.01, -0.05]])
    proprio = torch.rand(4000, 2, generator=generator) * 0.4 - 0.2
    actions = torch.rand(4000, 2, generator=generator) * 2 - 1
    following = torch.clamp(proprio + actions @ gain.T, -0.2, 0.2)
    kinematics = Kinematics(2, 2)
    kinematics.fit(proprio, actions, following)
    assert torch.allclose(kinematics.gain, gain, atol=1e-4)
    assert float((kinematics(proprio, actions) - following).abs().max()) < 2e-3


def test_fourier_is_bounded_and_tells_places_apart() -> None:
    fourier = Fourier(3)
    values = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    fourier.fit(values)
    encoded = fourier(values)
    assert encoded.shape == (500, fourier.width)
    assert float(encoded.abs().max()) <= 1.0 + 1e-5
    distance = torch.cdist(encoded, encoded) + torch.eye(500)
    assert float(distance.min()) > 0.0


def test_feature_norm_centres_each_place_and_scales_once() -> None:
    features = torch.randn(200, 4, 3) * 5.0 + torch.arange(12.0).reshape(4, 3)
    norm = FeatureNorm(4, 3)
    norm.fit(features)
    out = norm(features)
    assert torch.allclose(out.mean(dim=0), torch.zeros(4, 3), atol=1e-4)
    assert float(out.square().mean()) == pytest.approx(1.0, abs=1e-3)


def test_projectors_keep_the_contract() -> None:
    features = torch.randn(2, 3, 16, 8)
    assert CompactProjector(16, 8, 5, 4, 32)(features).shape == (2, 3, 1, 5)
    identity = IdentityProjector(16, 8)
    assert identity(features).shape == features.shape
    assert torch.allclose(identity(features).mean(dim=-1), torch.zeros(2, 3, 16), atol=1e-5)


def test_rollout_equals_calling_the_predictor_step_by_step() -> None:
    torch.manual_seed(0)
    predictor = CompactPredictor(6, 3, 3, hidden=16, blocks=2).eval()
    torch.nn.init.normal_(predictor.leave.weight)
    z, proprio, actions = torch.randn(2, 1, 1, 6), torch.randn(2, 1, 3), torch.randn(2, 5, 4, 3)
    with torch.no_grad():
        path, poses = rollout(predictor, z, proprio, actions)
        now, at = z.expand(2, 5, 1, 6).reshape(10, 1, 1, 6), proprio.expand(2, 5, 3).reshape(10, 1, 3)
        for step in range(4):
            action = actions.reshape(10, 4, 3)[:, step : step + 1]
            now, at = predictor(now, action, at), predictor.kinematics(at, action)
            assert torch.allclose(path[:, :, step].reshape(10, 1, 1, 6), now, atol=1e-6)
            assert torch.allclose(poses[:, :, step].reshape(10, 1, 3), at, atol=1e-6)


def test_the_compact_predictor_refuses_several_tokens() -> None:
    predictor = CompactPredictor(6, 3, 3, hidden=16, blocks=1)
    with pytest.raises(WorldModelError, match=r"expected latents \[B,T,1,6\]"):
        predictor(torch.randn(2, 1, 4, 6), torch.randn(2, 1, 3), torch.randn(2, 1, 3))


@pytest.mark.parametrize("kind", ["l1", "l2", "cosine"])
def test_latent_distances_are_zero_only_where_equal(kind: str) -> None:
    z = torch.randn(50, 2, 7, generator=torch.Generator().manual_seed(0))
    other = z + torch.randn(50, 2, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(latent_distance(kind, z, z), torch.zeros(50), atol=1e-6)  # type: ignore[arg-type]
    assert bool((latent_distance(kind, z, other) > 1e-3).all())  # type: ignore[arg-type]


def flat(places: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(places, (0, 1))


def same(proprio: torch.Tensor) -> torch.Tensor:
    return proprio


def goal_at(settled: bool, *arrived: bool) -> Goal:
    """All at the origin; arrived: of each object, of one if nothing is said."""
    there = torch.tensor([arrived or (False,)])
    places = torch.zeros(1, there.shape[1], 3)
    return Goal(torch.zeros(1, 1, 4), torch.zeros(1, 3), places, torch.tensor([settled]), there)


def test_energy_sums_the_horizon_and_fears_disagreement() -> None:
    path = torch.zeros(2, 1, 1, 3, 1, 2)
    path[0, ..., 0], path[1, ..., 0] = 1.0, 3.0  # two members: the object is 1 and 3 from its goal
    poses = torch.zeros(1, 1, 3, 3)
    poses[..., 0] = 0.5
    steps = torch.tensor([1.0, 3.0]) + 0.3 * torch.tensor([0.5, 2.5]) + 2.0 * 0.5  # place, approach, pose
    costs = steps * (0.3 + 0.3 + 1.0)
    for pessimism in (0.0, 1.5):
        energy = GoalEnergy(flat, same, approach_weight=0.3, proprio_weight=2.0, pessimism=pessimism)
        expected = costs.mean() + pessimism * costs.std(correction=0)
        assert float(energy.pessimistic(energy.towards(goal_at(False), path.shape[3])(path, poses))) == pytest.approx(
            float(expected), rel=1e-5
        )


@pytest.mark.parametrize("arrived", [[False, False], [True, True], [True, False]])
@pytest.mark.parametrize("settled", [[False, False], [True, True], [True, False]])
@pytest.mark.parametrize("weights", [(0.2, 0.0, 0.1), (0.0, 0.0, 0.0), (0.0, 0.5, 0.1)])
def test_distances_that_count_nothing_are_left_out_and_change_no_bit(
    settled: list[bool], arrived: list[bool], weights: tuple[float, float, float]
) -> None:
    generator = torch.Generator().manual_seed(0)
    path, poses = (torch.randn(shape, generator=generator) for shape in ((3, 2, 5, 4, 1, 2), (2, 5, 4, 3)))
    proprio, place = torch.randn(2, 2, 3, generator=generator)
    there = torch.tensor(arrived)[:, None]
    goal = Goal(torch.zeros(2, 1, 4), proprio, place[:, None], torch.tensor(settled), there)
    approach, pose, there = weights
    energy = GoalEnergy(flat, same, approach_weight=approach, proprio_weight=pose, arrived_weight=there)
    wide = Goal(*(part[:, None, None] for part in (goal.z, proprio, goal.place, goal.settled, goal.arrived)))
    whole = energy.step(path, poses, wide) @ torch.tensor([0.3, 0.3, 0.3, 1.0])
    assert torch.equal(energy.towards(goal, 4)(path, poses), whole)


def test_a_settled_scene_leaves_the_pose_and_the_place() -> None:
    energy = GoalEnergy(flat, same, approach_weight=0.2, arrived_weight=0.1)
    place, pose = torch.tensor([[[0.3, 0.4]]]), torch.tensor([[0.3, 0.0, 0.0]])
    assert float(energy.step(place, pose, goal_at(True))) == pytest.approx(0.5 + 0.3, rel=1e-6)
    assert float(energy.step(place, pose, goal_at(False))) == pytest.approx(0.5 + 0.2 * 0.4, rel=1e-6)
    assert float(energy.step(place, pose, goal_at(False, True))) == pytest.approx(0.5 + 0.1 * 0.3, rel=1e-6)
    assert float(energy.step(place, pose, goal_at(True, True))) == pytest.approx(0.5 + 0.3, rel=1e-6)


def test_the_hand_goes_to_the_nearest_object_that_is_not_in_its_place() -> None:
    energy = GoalEnergy(flat, same, approach_weight=0.2, arrived_weight=0.1)
    places, pose = torch.tensor([[[0.3, 0.4], [0.0, 0.1]]]), torch.zeros(1, 3)
    cost = {
        arrived: float(energy.step(places, pose, goal_at(False, *arrived)))
        for arrived in ((False, False), (False, True), (True, False), (True, True))
    }
    assert cost[False, False] == cost[True, False] == pytest.approx(0.6 + 0.2 * 0.1, rel=1e-6)
    assert cost[False, True] == pytest.approx(0.6 + 0.2 * 0.5, rel=1e-6)
    assert cost[True, True] == pytest.approx(0.6, rel=1e-6), "nothing is left to go to"


def test_a_hidden_object_is_believed_to_stay_and_a_seen_one_is_followed() -> None:
    rest, clear, hidden = torch.zeros(1, 1, 2), torch.full((1, 1, 1), -4.0), torch.full((1, 1, 1), 4.0)
    belief = Belief()
    belief.update(rest, clear)
    for _ in range(5):
        belief.predict(rest.expand(4, 1, 1, 2))
        place = belief.update(rest + 2.0, hidden)
    assert float(place.norm()) < 0.2
    belief.predict(place.expand(4, 1, 1, 2))
    place = belief.update(rest + 2.0, clear)
    assert float((place - 2.0).norm()) < 0.1, "a clear view far from the prediction wins at once"


def test_belief_averages_what_it_sees() -> None:
    generator = torch.Generator().manual_seed(0)
    belief, noise = Belief(), 0.2
    doubt = torch.full((500, 1, 1), 2.0 * float(np.log(noise)))
    for _ in range(12):
        seen = noise * torch.randn(500, 1, 2, generator=generator)
        place = belief.update(seen, doubt)
        belief.predict(place.expand(2, 500, 1, 2))
    assert float(place.square().mean().sqrt()) < 0.8 * noise


@pytest.mark.parametrize("remembers", [True, False])
def test_an_agent_without_belief_takes_each_picture_at_its_word(remembers: bool) -> None:
    rng, model = np.random.default_rng(0), tiny_model()
    goal, first, second = rng.integers(0, 255, (3, 1, 32, 32, 3), dtype=np.uint8)
    proprio = np.full((1, 3), 0.1, np.float32)
    candidates = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    settings = {"belief": remembers, "settled_below": 0.0, "settled_within": 0.0}
    costs = []
    for pictures in ([first], []):
        agent = model.agent(**settings)
        agent.reset(goal, [0])
        for picture in pictures:
            agent.act({"pixels": picture, "proprio": proprio})
        costs.append(agent.cost({"pixels": second, "proprio": proprio})(candidates))
    assert torch.equal(*costs) is not remembers


def test_penalties_agree_with_numpy() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5))
    covariance = np.cov(z, rowvar=False)
    expected = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    assert float(covariance_penalty(torch.from_numpy(z))) == pytest.approx(expected / 5, rel=1e-6)
    pose = rng.normal(size=(300, 2))
    unit = (pose - pose.mean(0)) / (pose.std(0, ddof=1) + 1e-3)
    cross = (z - z.mean(0)).T @ unit / 300
    found = dependence(torch.from_numpy(z), torch.from_numpy(pose))
    assert float(found) == pytest.approx((cross**2).sum() / 5, rel=1e-6)
