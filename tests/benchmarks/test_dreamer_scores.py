"""Which returns stand for which point of DreamerV3's curve; needs no DreamerV3."""

from __future__ import annotations

from benchmarks.agents.dreamer_online import LATEST, PUBLISHED, score

GATE = [(step, float(step)) for step in range(16_000, 250_001, 16_000) for _ in range(16)]
"""Of 250,000 steps in 16 environments in lockstep, whose episodes have 1000 steps: the last end at 240,000."""


def test_the_gate_reports_at_its_own_target() -> None:
    assert GATE[-1][0] == 240_000
    found = {point: score(GATE, point, window, steps=250_000) for point, (_, _, window) in PUBLISHED.items()}
    assert found[250_000] == "224000.0 (48 episodes)", "of the last 50,000 steps, as published: 208,000 to 240,000"
    assert found[100_000] == "88000.0 (32 episodes)", "of the last 30,000 steps, as published: 80,000 and 96,000"
    assert found[490_000] == "not run"
    assert score(GATE[:-16], 250_000, 50_000, steps=249_999) == "not run"
    assert score([], 100, 50, steps=100) == "none ended"


def test_a_milestone_does_not_reach_back_to_the_untrained_start() -> None:
    curve = [(step, 0.0 if step < 20_000 else 1.0) for step in range(60, 25_001, 60)]
    assert score(curve, 25_000, LATEST, steps=25_000).startswith("1.0 (")
