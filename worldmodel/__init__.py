"""World-model planning for robot arms: frozen V-JEPA features, learned dynamics, planners. The table of contents.

Names are imported when they are first used, so that `import worldmodel` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldmodel.agent import PlanningAgent
    from worldmodel.bundle import load
    from worldmodel.encoders import load_encoder
    from worldmodel.errors import WorldModelError
    from worldmodel.model import WorldModel
    from worldmodel.tokens import TokenModel
    from worldmodel.types import Agent, Decision
    from worldmodel.vjepa2_ac import VJEPA2AC

_HOME = {
    "Agent": "worldmodel.types",
    "Decision": "worldmodel.types",
    "PlanningAgent": "worldmodel.agent",
    "TokenModel": "worldmodel.tokens",
    "VJEPA2AC": "worldmodel.vjepa2_ac",
    "WorldModel": "worldmodel.model",
    "WorldModelError": "worldmodel.errors",
    "load": "worldmodel.bundle",
    "load_encoder": "worldmodel.encoders",
}

__all__ = [
    "VJEPA2AC", "Agent", "Decision", "PlanningAgent", "TokenModel", "WorldModel", "WorldModelError", "load",
    "load_encoder",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'worldmodel' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
