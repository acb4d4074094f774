"""DreamerV3 as sheeprl has it, of the optional extra `baselines`: composed, trained and played, not written again.

sheeprl 0.8.4, algorithm `dreamer_v3_5`: Hafner et al. 2025, Mastering diverse control tasks through world models
(Nature, doi 10.1038/s41586-025-08744-2), with the settings of the official repository. sheeprl is imported when a
`Dreamer` is made. Legend: worldmodel/types.py. n sequences of L steps, time first: [L,n,...]; G width of a posterior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel.errors import ConfigError, TrainingError

SIZES = ("1M", "12M", "25M", "50M", "100M", "200M", "400M")
CPU = torch.device("cpu")
WARMUP = 1000  # steps, as published
# Without a reward there is nothing to act for: the world model alone is trained.
NO_ACTOR = (
    "algo.horizon=1",
    "algo.critic.replay_loss=false",
    *(f"algo.loss_scales.{name}=0.0" for name in ("policy", "value", "replay_value")),
)


class Dreamer(nn.Module):
    """World model, actor and critic over named observations; it keeps the latent state of the episodes it plays.

    images: side [px] of each picture, uint8 [...,3,s,s], a multiple of 16. vectors: width of each float vector.
    size: one of SIZES, of the official repository. acts: whether actor and critic are trained.
    replay_context: steps before a sequence whose stored latent begins it; 0 begins every sequence anew, which is what
    logs that were not played by the agent allow. Raises ConfigError where sheeprl is not installed.
    """

    def __init__(
        self,
        images: Mapping[str, int],
        vectors: Mapping[str, int],
        action_dim: int,
        *,
        size: str = "1M",
        device: torch.device = CPU,
        acts: bool = True,
        replay_context: int = 0,
    ) -> None:
        super().__init__()
        if size not in SIZES or any(side % 16 for side in images.values()):
            got = f"{size!r} and {list(images.values())} px"
            raise ConfigError(
                f"expected one of {', '.join(SIZES)} and pictures of a multiple of 16 px, got {got}: choose such"
            )
        require_sheeprl()
        from lightning.fabric import Fabric
        from sheeprl.algos.dreamer_v3_5.agent import build_agent
        from sheeprl.algos.dreamer_v3_5.utils import Moments

        self.images, self.vectors, self.action_dim = dict(images), dict(vectors), action_dim
        overrides = (*(() if acts else NO_ACTOR), f"algo.replay_context={replay_context}")
        self.settings = compose(size, images, vectors, overrides)
        self._fabric = Fabric(accelerator=device.type, devices=1)
        seen: dict[str, spaces.Space[Any]] = {key: spaces.Box(0, 255, (3, side, side)) for key, side in images.items()}
        seen |= {key: spaces.Box(-torch.inf, torch.inf, (width,)) for key, width in vectors.items()}
        found = build_agent(self._fabric, (action_dim,), True, self.settings, spaces.Dict(seen))
        # Fabric's wrappers are called, what they wrap is kept: a tuple is not registered.
        self._wrapped, self._player = tuple(found[:4]), (found[4],)
        scale = self.settings.algo.actor.moments
        self.moments = Moments(scale.decay, scale.max, scale.percentile.low, scale.percentile.high).to(device)
        world, actor, critic, slow = self._wrapped
        outer = ("encoder", "observation_model", "reward_model", "continue_model")
        inner = ("recurrent_model", "representation_model", "transition_model")
        modules = {name: getattr(world, name).module for name in outer}
        modules |= {name: getattr(world.rssm, name).module for name in inner}
        self.modules_by_name = nn.ModuleDict(
            {**modules, "actor": actor.module, "critic": critic.module, "slow_critic": slow.module}
        )

    @property
    def device(self) -> torch.device:
        """Where it is, for good."""
        device: torch.device = self._fabric.device
        return device

    def parts(self) -> dict[str, nn.Module]:
        """All that training changes, by name."""
        return {**dict(self.modules_by_name.items()), "moments": self.moments}

    def optimizer(self, learning_rate: float, warmup: int = WARMUP) -> torch.optim.Optimizer:
        """The official one: LaProp with adaptive clipping, `warmup` steps of linear warm-up, then constant."""
        from sheeprl.algos.dreamer_v3_5.optim import LaProp

        given = {key: value for key, value in self.settings.algo.optimizer.items() if key != "_target_"}
        world, actor, critic, _ = self._wrapped
        weights = [*world.parameters(), *actor.parameters(), *critic.parameters()]
        made: torch.optim.Optimizer = LaProp(weights, **{**given, "lr": learning_rate, "warmup": warmup})
        return made

    def update(
        self, batch: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, told: dict[str, float] | None = None
    ) -> Any:
        """One step of training on observations and "actions" [L,n,A], "rewards", "terminated", "truncated", "is_first"
        [L,n,1]: a step's reward is that of arriving in it, its action the one that leaves it.

        told: gets the losses. Returns the latents to keep, with a replay context. Raises TrainingError on divergence.
        """
        from sheeprl.algos.dreamer_v3_5.dreamer_v3_5 import train, update_target_critic

        world, actor, critic, slow = self._wrapped
        losses = None if told is None else Losses(told)
        batch = {key: value.to(self.device) for key, value in batch.items()}
        parts = (world, actor, critic, slow, optimizer, self.moments, batch, losses, (self.action_dim,))
        try:
            latents = train(self._fabric, self.settings, *parts)
        except ValueError as error:  # a distribution's, before any loss is told
            cause = str(error).partition("\n")[0]
            raise TrainingError(f"expected finite actions, got an error ({cause}): lower learning_rate") from error
        update_target_critic(critic, slow, self.settings.algo.critic.tau)
        return latents

    @torch.no_grad()
    def validate(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses of the world model on a batch as `update` takes it, without a step; the same for the same batch.

        The posteriors it draws are seeded, and torch's global generator is left as it was.
        """
        from sheeprl.algos.dreamer_v3_5.dreamer_v3_5 import world_model_loss, world_model_loss_kwargs

        batch = {key: value.to(self.device) for key, value in batch.items()}
        observed = {key: batch[key] for key in (*self.images, *self.vectors)}
        count = batch["actions"].shape[1]
        before = torch.cat([torch.zeros_like(batch["actions"][:1]), batch["actions"][:-1]])
        first = torch.cat([torch.ones_like(batch["is_first"][:1]), batch["is_first"][1:]])
        deter, stoch = self._blank(count)
        truth = (before, first, batch["rewards"], batch["terminated"])
        given = world_model_loss_kwargs(self.settings)
        own = [] if self.device.type == "cpu" else [self.device.index or 0]
        with torch.random.fork_rng(devices=own, device_type=self.device.type):
            torch.manual_seed(0)
            found = world_model_loss(self._wrapped[0], observed, *truth, deter, stoch, **given, entropies=False)[-1]
        return {name.partition("/")[2]: float(value) for name, value in found.items()}

    def begin(self, count: int) -> None:
        """Play `count` episodes from their start."""
        self._player[0].num_envs = count
        self._player[0].init_states()

    @torch.no_grad()
    def forget(self, episodes: Sequence[int]) -> None:
        """Begin these of the episodes anew."""
        self._player[0].init_states(episodes)

    @torch.no_grad()
    def act(self, observed: Mapping[str, Tensor], greedy: bool) -> Tensor:
        """Observations of n episodes -> their actions [n,A] in [-1, 1]; the mean of the policy, or a sample."""
        actions: Tensor = self._player[0].get_actions(self._seen(observed), greedy=greedy)[0][0]
        return actions

    def instead(self, actions: Tensor) -> None:
        """What is done [n,A] in place of what `act` said."""
        self._player[0].actions = actions[None].to(self.device)

    def state(self) -> tuple[Tensor, Tensor]:
        """The latent state of the episodes: recurrent [n,R] and stochastic [n,G]."""
        return self._player[0].recurrent_state[0], self._player[0].stochastic_state[0]

    @torch.no_grad()
    def posterior(self, observed: Mapping[str, Tensor]) -> Tensor:
        """Class probabilities [n,G] of the stochastic state of observations that begin an episode."""
        world = self._wrapped[0]
        embedded = world.encoder(self._seen(observed))
        deter, stoch = self._blank(embedded.shape[1])
        still = world.rssm.embed_actions(torch.zeros(1, embedded.shape[1], self.action_dim, device=self.device))
        logits = world.rssm.dynamic(stoch, deter, still, world.rssm.project_observations(embedded))[2]
        found: Tensor = logits[0].exp().flatten(-2)
        return found

    @torch.no_grad()
    def imagine(self, state: tuple[Tensor, Tensor], actions: Tensor) -> tuple[Tensor, Tensor]:
        """What is expected after each of the actions [n,H,A] from states of n: recurrent [n,H,R] and the class
        probabilities [n,H,G] of the stochastic state, of which one sample is followed."""
        rssm = self._wrapped[0].rssm
        deter, stoch = state[0][None], state[1][None]
        path, expected = [], []
        for action in actions.to(self.device).unbind(dim=1):
            deter = rssm.recurrent_model(deter, stoch, rssm.embed_actions(action[None]))
            logits = rssm.prior_logits(deter)
            stoch = rssm.sample(logits)
            path.append(deter[0])
            expected.append(logits[0].exp().flatten(-2))
        return torch.stack(path, dim=1), torch.stack(expected, dim=1)

    @torch.no_grad()
    def decode(self, deter: Tensor, stoch: Tensor) -> dict[str, Tensor]:
        """Observations [...] of states: pictures in [0, 1], vectors as their symlog."""
        found: dict[str, Tensor] = self._wrapped[0].observation_model(torch.cat([stoch, deter], dim=-1))
        return found

    def _seen(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[n,...] -> [1,n,...] as the encoder takes it."""
        moved = {key: value[None].to(self.device).float() for key, value in observed.items()}
        return {key: value / 255.0 - 0.5 if key in self.images else value for key, value in moved.items()}

    def _blank(self, count: int) -> tuple[Tensor, Tensor]:
        player = self._player[0]
        sizes = (player.recurrent_state_size, player.stochastic_size * player.discrete_size)
        return tuple(torch.zeros(1, count, size, device=self.device) for size in sizes)  # type: ignore[return-value]


class Losses:
    """What sheeprl calls an aggregator: takes each loss by name."""

    disabled = False

    def __init__(self, told: dict[str, float]) -> None:
        self._told = told

    def update(self, name: str, value: Any) -> None:
        """Keep one loss, without the name of its group."""
        self._told[name.partition("/")[2]] = float(value)


def require_sheeprl() -> None:
    """Raise ConfigError where the extra is not installed."""
    try:
        import sheeprl  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"expected the package sheeprl for dreamerv3, got none ({error}): see docs/dreamerv3.md"
        ) from error


def compose(size: str, images: Mapping[str, int], vectors: Mapping[str, int], overrides: tuple[str, ...]) -> Any:
    """sheeprl's own settings of this size, with `.algo` and what else its functions read."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf
    from sheeprl.utils.utils import dotdict

    keys = [f"algo.cnn_keys.encoder=[{','.join(images)}]", f"algo.mlp_keys.encoder=[{','.join(vectors)}]"]
    with initialize_config_module("sheeprl.configs", version_base="1.3"):
        composed = compose(config_name=f"algo/dreamer_v3_5_{size}", overrides=[*keys, *overrides])
    found = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(found, dict)
    return dotdict({**found, "env": {"num_envs": 1}})
