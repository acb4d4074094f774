"""The rows of a suite's page: what was measured, what to call it, and which rows may be compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stats import McNemar, PairedDifference, mcnemar, paired_bootstrap
from benchmarks.summary import Line, read_lines
from worldmodel.errors import ConfigError

EFFORT = "effort.json"
COUNTS = ("decisions", "encoder_decisions", "configurations_tried", "configurations_tried_at_least", "pixels")
WORDS = ("sees", "effort")
CARD = ("sees", "reward", "size", "steps", "privileged")  # of a model: what tells two of one agent apart


@dataclass(frozen=True)
class Measured:
    """One row: its folder, summary.json, episodes.jsonl, and a name that no other row of its task has."""

    folder: Path
    summary: Mapping[str, Any]
    lines: Sequence[Line]
    name: str

    @property
    def world(self) -> str:
        """What must be equal for two rows to be comparable: the environment with its options, and the protocol."""
        keep_out = self.summary.get("planner_settings", {}).get("guardrails", {}).get("keep_out", 0.0)
        goal = self.summary.get("goal")
        far = variant(self.summary)["goal_after"]
        return f"{self.summary['env_id']} {self.summary['protocol']['sha256']} {keep_out or 0.0} {goal} {far}"

    @property
    def shift(self) -> str | None:
        """How its scenes look unlike the training data; starts, goals and physics are the same."""
        shift: str | None = variant(self.summary)["shift"]
        return shift

    @property
    def rate(self) -> float | None:
        """The share of episodes that reached the goal; None where that is not known."""
        rate: float | None = self.summary["success_rate"]
        return rate

    @property
    def interactions(self) -> int | None:
        """Decisions in the logs it could learn from; None where that is not recorded, or it was not trained."""
        count: int | None = self.summary["model"].get("decisions")
        return count

    @property
    def seconds(self) -> list[float]:
        """Of every decision, its share of the batch [s]."""
        return [second / line["parallel"] for line in self.lines for second in line["seconds"]]

    def reached_within(self) -> list[float]:
        """The share of episodes that had reached the goal after 0, 1, ... decisions of the budget."""
        first = [line["first_reached"] for line in self.lines if line["first_reached"] is not None]
        budget = int(self.summary["budget"])
        return [sum(count <= used for count in first) / len(self.lines) for used in range(budget + 1)]


@dataclass(frozen=True)
class Pair:
    """Two rows on the seeds that both have. distance: first - second, final [m], where both have one."""

    first: Measured
    second: Measured
    seeds: int
    success: McNemar
    distance: PairedDifference | None


def read_rows(folder: Path) -> list[Measured]:
    """The results in folder/*/, by task; a single one may lie in `folder` itself. Raises ConfigError for none."""
    places = [path.parent for path in (folder / "summary.json", *sorted(folder.glob("*/summary.json")))]
    found = [place for place in places if (place / "summary.json").is_file()]
    if not found:
        raise ConfigError(f"expected a folder with summary.json in it or one level below, got {folder}: drive first")
    summaries = [json.loads((place / "summary.json").read_text(encoding="utf-8")) for place in found]
    known = efforts(folder)
    for summary in summaries:
        card = summary["model"]
        told = [known.get(str(card.get(key)), {}) for key in ("encoder_sha256", "sha256")]
        summary["model"] = {**told[0], **told[1], **card}
    names = labels(summaries)
    rows = [
        Measured(place, summary, read_lines(place / "episodes.jsonl"), name)
        for place, summary, name in zip(found, summaries, names, strict=True)
    ]
    return sorted(rows, key=lambda row: (str(row.summary["task"]), -(row.rate or 0.0), row.name))


def efforts(folder: Path) -> dict[str, dict[str, Any]]:
    """What models and encoders do not say themselves, by sha256: of benchmarks/effort.json and folder/effort.json.

    {"decisions" of the logs it could learn from (not of those held out), "encoder_decisions" of those its encoder
    could, "configurations_tried" or, where nobody counted, "configurations_tried_at_least", "sees", "pixels" (their
    side [px]), "effort" (where that is from)}; None where not recorded. Raises ConfigError for a file that says
    something else.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in (Path(__file__).parent / EFFORT, folder / EFFORT):
        given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for sha256, facts in given.items():
            counts = {key: value for key, value in facts.items() if key not in WORDS}
            whole = all(value is None or (isinstance(value, int) and value > 0) for value in counts.values())
            if not whole or set(counts) - set(COUNTS):
                raise ConfigError(
                    f"expected {', '.join(COUNTS)}, whole numbers or null, and {', '.join(WORDS)}, in {path}, "
                    f"got {counts} for {sha256[:8]}: mend it"
                )
        found |= given
    return found


def who(summary: Mapping[str, Any]) -> str:
    """The agent, and its planner where it has one."""
    agent: str = summary["agent"]
    return agent if summary["planner"] is None else f"{agent} ({summary['planner']})"


def variant(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How the task differed from itself; results that say nothing of it were measured before it could."""
    return {"shift": None, "goal_after": None, **summary.get("variant", {})}


def alike(row: Measured, but_for: str) -> str:
    """Equal for rows that differ in nothing but this one part of their variant."""
    summary = row.summary
    facts = {key: summary.get(key) for key in ("task", "agent", "planner", "planner_settings", "seeds", "goal")}
    others = {key: value for key, value in variant(summary).items() if key != but_for}
    return json.dumps({**facts, "model": summary["model"]["sha256"], "others": others}, sort_keys=True)


def labels(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """`who`, and for rows of a task that share it, the settings in which they differ."""
    names = []
    for summary in summaries:
        alike = [other for other in summaries if (other["task"], who(other)) == (summary["task"], who(summary))]
        facts = [_facts(other) for other in alike]
        own, shared = _facts(summary), set.intersection(*(set(each) for each in facts))
        told = {key for key in own if "." not in key}  # of planning, where others leave it to the model
        keys = sorted(key for key in shared | told if len({str(fact.get(key)) for fact in facts}) > 1)
        cards = {str([fact[f"card.{key}"] for key in CARD]) for fact in facts}
        if len(cards) == len({fact["model"] for fact in facts}):  # which say more than a hash
            keys = [key for key in keys if key != "model"]
        keys = [key for key in keys if own[key] is not None or key.partition(".")[0] not in ("variant", "card")]
        names.append(", ".join([who(summary), *(f"{key.rpartition('.')[2]} {own[key]}" for key in keys)]))
    return names


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What can tell two rows of one agent apart."""
    facts = {"model": str(summary["model"]["sha256"])[:8], "seeds from": summary["seeds"]["first"]}
    facts |= {f"variant.{key}": value for key, value in variant(summary).items()}
    facts |= {f"card.{key}": summary["model"].get(key) for key in CARD}
    for key, value in summary.get("planner_settings", {}).items():
        nested = value.items() if isinstance(value, Mapping) else [("", value)]
        facts |= {f"{key}.{inner}".rstrip("."): each for inner, each in nested}
    return facts


def pairs(rows: Sequence[Measured]) -> list[Pair]:
    """Every two rows of one task in one world that have seeds in common and know their success.

    In two looks, an agent is compared with itself only.
    """
    known = [row for row in rows if row.rate is not None]
    found = []
    for first, second in itertools.combinations(known, 2):
        if first.world != second.world or (first.shift != second.shift and who(first.summary) != who(second.summary)):
            continue
        lines = [{line["seed"]: line for line in row.lines} for row in (first, second)]
        common = sorted(lines[0].keys() & lines[1].keys())
        if common:
            found.append(_compare(first, second, [(lines[0][seed], lines[1][seed]) for seed in common]))
    return found


def _compare(first: Measured, second: Measured, both: Sequence[tuple[Line, Line]]) -> Pair:
    reached = [(a["reached"] is True, b["reached"] is True) for a, b in both]
    far = [(a["final_distance_m"], b["final_distance_m"]) for a, b in both]
    far = [(a, b) for a, b in far if a is not None and b is not None]
    distance = paired_bootstrap([a for a, _ in far], [b for _, b in far]) if far else None
    return Pair(first, second, len(both), mcnemar([a for a, _ in reached], [b for _, b in reached]), distance)
