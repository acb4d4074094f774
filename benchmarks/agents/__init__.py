"""Agents that bound what planning can achieve, from random to the true simulator, and those it has to beat."""

from benchmarks.agents.dreamer import DreamerAgent
from benchmarks.agents.dreamer_planning import DreamerPlanningAgent
from benchmarks.agents.hold import HoldAgent
from benchmarks.agents.oracle import OracleAgent
from benchmarks.agents.pixel_prediction import PixelPredictionAgent
from benchmarks.agents.policy import PolicyAgent
from benchmarks.agents.random_agent import RandomAgent

__all__ = [
    "DreamerAgent",
    "DreamerPlanningAgent",
    "HoldAgent",
    "OracleAgent",
    "PixelPredictionAgent",
    "PolicyAgent",
    "RandomAgent",
]
