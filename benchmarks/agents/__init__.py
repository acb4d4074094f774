"""Agents that bound what planning can achieve: random, hold, and the oracle that plans in the true simulator."""

from benchmarks.agents.hold import HoldAgent
from benchmarks.agents.oracle import OracleAgent
from benchmarks.agents.random_agent import RandomAgent

__all__ = ["HoldAgent", "OracleAgent", "RandomAgent"]
