"""Whether a scene is as in the goal image from the start: only the arm has to move. Legend: worldmodel/types.py."""

from __future__ import annotations

import torch
from torch import Tensor

from worldmodel.energy import Distance, Goal, latent_distance
from worldmodel.model import WorldModel

SURE = 20.0  # standard deviations, by what the tracker says of itself, and it is too sure


@torch.no_grad()
def settled(model: WorldModel, z: Tensor, goal: Goal, distance: Distance, below: float, reach: float) -> Tensor:
    """bool [B], of first pictures z [B,1,D]; never where below is 0.

    Scenes nearer than `below` to the goal's are settled, but for those in which an object has surely moved. So are
    those whose objects all lie within `reach` [m] of their places: they are nothing to move, or not there at all and
    believed somewhere.
    """
    if below <= 0.0:
        return torch.zeros(len(z), dtype=torch.bool, device=z.device)
    alike = latent_distance(distance, model.scene(z), model.scene(goal.z)) < below
    here, there = model.place(z), model.place(goal.z)
    noise = (model.doubt(z).exp() + model.doubt(goal.z).exp()).sqrt()
    moved = ((here - there).norm(dim=-1, keepdim=True) > SURE * noise).any(dim=-2).squeeze(-1)
    found: Tensor = (alike & ~moved) | ((model.locate(here) - goal.place).norm(dim=-1) < reach).all(dim=-1)
    return found
