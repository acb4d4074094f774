"""Action-conditioned dynamics on latents: the compact form for one token, and how the end effector moves.

The transformer form for more tokens is in transformer.py. Legend: worldmodel/types.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.errors import WorldModelError


class Kinematics(nn.Module):
    """Proprioception after an action: linear in the action, kept within the range of the data.

    Fitted in closed form on the logs, so that it knows a robot's action scale and workspace without being told.
    residual: with `hidden` > 0, what a network of that width adds to the linear step, for robots whose wheels roll
    where they point. How it is learned: worldmodel/training/motion.py.
    known: with `places` > 0, so many logged places, the first C coordinates of the proprioception. A step is stopped
    that would lead to where no log ever went, further than `gap` from all of them: there may be a wall.
    """

    known: Tensor
    gap: Tensor

    gain: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, proprio_dim: int, action_dim: int, hidden: int = 0, places: int = 0, position_dim: int | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("gain", torch.zeros(proprio_dim, action_dim))
        self.register_buffer("low", torch.full((proprio_dim,), -1e9))
        self.register_buffer("high", torch.full((proprio_dim,), 1e9))
        self.residual = MotionResidual(proprio_dim, action_dim, hidden) if hidden else None
        self.fenced = places > 0
        if self.fenced:
            self.register_buffer("known", torch.zeros(places, proprio_dim if position_dim is None else position_dim))
            self.register_buffer("gap", torch.tensor(1e9))

    def fit(self, proprio: Tensor, actions: Tensor, following: Tensor) -> None:
        """Least squares of displacements [n,P] on actions [n,A], twice: then without what the walls stopped."""
        low, high = proprio.quantile(0.001, dim=0), proprio.quantile(0.999, dim=0)
        margin = 0.02 * (high - low)
        inside = ((following > low + margin) & (following < high - margin)).all(dim=-1)
        if int(inside.sum()) < actions.shape[1] + 1:
            inside = torch.ones_like(inside)
        for _ in range(2):
            moved = (following - proprio)[inside].double()
            # Not the default, gelsy: it reads unset memory, and errs where an action never changes (torch #71222).
            solution = torch.linalg.lstsq(actions[inside].double(), moved, driver="gelsd").solution
            error = (following - proprio - actions @ solution.float()).norm(dim=-1)
            inside = inside & (error <= error[inside].quantile(0.95))
        self.gain.copy_(solution.T.float())
        self.low.copy_(low)
        self.high.copy_(high)

    def forward(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """[...,P], [...,A] -> [...,P]."""
        following = self.unfenced(proprio, actions)
        return self._stopped(proprio, following) if self.fenced else following

    def unfenced(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """The same without a stop where no log ever went."""
        following = proprio + actions @ self.gain.T
        if self.residual is not None:
            following = following + self.residual(proprio, actions)
        return torch.clamp(following, self.low, self.high)

    def fence(self, known: Tensor, gap: Tensor) -> None:
        """Take places [n,C] that cover where the logs went to within `gap` [m]."""
        self.known.copy_(known)
        self.gap.copy_(gap)

    def _stopped(self, proprio: Tensor, following: Tensor) -> Tensor:
        """A robot that is off the known places already is only kept from going further off."""
        width = self.known.shape[1]
        before, after = (place_gaps(pose[..., :width], self.known).amin(dim=-1) for pose in (proprio, following))
        stopped = (after > torch.maximum(before, self.gap)).unsqueeze(-1)
        place = torch.where(stopped, proprio[..., :width], following[..., :width])
        return torch.cat([place, following[..., width:]], dim=-1)


def place_gaps(places: Tensor, others: Tensor) -> Tensor:
    """Distances of places [...,C] from others [n,C]: [...,n]. Not by products, which autocast would round."""
    flat = places.reshape(-1, places.shape[-1])
    gaps = torch.cdist(flat, others, compute_mode="donot_use_mm_for_euclid_dist")
    return gaps.reshape(*places.shape[:-1], -1)


class Fourier(nn.Module):
    """sin and cos of a vector, scaled to its range, at a few octaves: [...,P] -> [...,P * (1 + 2 * octaves)]."""

    low: Tensor
    span: Tensor

    def __init__(self, dim: int, octaves: int = 4) -> None:
        super().__init__()
        self.octaves, self.width = octaves, dim * (1 + 2 * octaves)
        self.register_buffer("low", torch.zeros(dim))
        self.register_buffer("span", torch.ones(dim))

    def fit(self, values: Tensor) -> None:
        """Take the range of values [n,P]."""
        self.low.copy_(values.amin(dim=0))
        self.span.copy_((values.amax(dim=0) - values.amin(dim=0)).clamp_min(1e-6))

    def forward(self, values: Tensor) -> Tensor:
        unit = 2.0 * (values - self.low) / self.span - 1.0
        angles = [unit * (math.pi * 2.0**k / 2.0) for k in range(self.octaves)]
        return torch.cat(
            [unit, *(torch.sin(angle) for angle in angles), *(torch.cos(angle) for angle in angles)], dim=-1
        )


class ResidualBlock(nn.Module):
    """x + MLP(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[...,W] -> [...,W]."""
        out: Tensor = x + self.down(F.gelu(self.up(self.norm(x))))
        return out


class MotionResidual(nn.Module):
    """What the linear kinematics miss of a step, from the pose and the action; nothing before it is trained.

    Frozen but while it is fitted: neither latents nor places have a say in how the robot moves.
    """

    scale: Tensor

    def __init__(self, proprio_dim: int, action_dim: int, hidden: int, blocks: int = 2) -> None:
        super().__init__()
        self.fourier = Fourier(proprio_dim)
        self.enter = nn.Linear(self.fourier.width + action_dim, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(blocks)))
        self.leave = nn.Linear(hidden, proprio_dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.register_buffer("scale", torch.ones(proprio_dim))
        self.requires_grad_(False)

    def fit(self, proprio: Tensor, following: Tensor) -> None:
        """Take the range of proprio [n,P] and the usual size of a step to what follows [n,P]."""
        self.fourier.fit(proprio)
        self.scale.copy_((following - proprio).square().mean(dim=0).sqrt().clamp_min(1e-6))

    def forward(self, proprio: Tensor, actions: Tensor) -> Tensor:
        """[...,P], [...,A] -> [...,P]."""
        inputs = torch.cat([self.fourier(proprio), actions], dim=-1)
        out: Tensor = self.scale * self.leave(self.blocks(self.enter(inputs)))
        return out


class CompactPredictor(nn.Module):
    """Markov dynamics for one latent token: [z, proprioception now and after the action, action] -> z + dz."""

    context = 1

    def __init__(
        self,
        latent_dim: int,
        action_dim: int,
        proprio_dim: int,
        hidden: int = 512,
        blocks: int = 3,
        kinematics: Kinematics | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.kinematics = Kinematics(proprio_dim, action_dim) if kinematics is None else kinematics
        self.fourier = Fourier(proprio_dim)
        self.enter = nn.Linear(latent_dim + action_dim + 2 * self.fourier.width, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden) for _ in range(blocks)))
        self.leave = nn.Linear(hidden, latent_dim)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, z: Tensor, actions: Tensor, proprio: Tensor) -> Tensor:
        """[B,T,1,D], [B,T,A], [B,T,P] -> [B,T,1,D]; slot t predicts t+1."""
        if z.shape[-2:] != (1, self.latent_dim):
            raise WorldModelError(
                f"expected latents [B,T,1,{self.latent_dim}] for the compact predictor, got {list(z.shape)}: "
                "use the transformer for more tokens"
            )
        following = self.kinematics(proprio, actions)
        inputs = torch.cat([z.squeeze(-2), actions, self.fourier(proprio), self.fourier(following)], dim=-1)
        out: Tensor = z + self.leave(self.blocks(self.enter(inputs))).unsqueeze(-2)
        return out
