"""Many rows: each known by what decides it, none driven twice, and a run cut short ends like one that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_model import tiny_model

from benchmarks.bench import bench, of_agents
from benchmarks.run import BEGUN, run
from benchmarks.suite import RECIPES, Row, run_suite
from tests.benchmarks.test_evaluation_run import DRIVE, SEED, lines, subject
from worldmodel.bundle import save
from worldmodel.cli import main
from worldmodel.cli_help import comments
from worldmodel.cli_options import CONFIGS
from worldmodel.errors import ConfigError

LATER = {"dreamerv3": "d2_success", "inverse_dynamics": "inverse_dynamics"}  # baselines that nobody trained yet
HOLD = {**DRIVE, "agent": "hold", "episodes": 2}


def row(**settings: Any) -> Row:
    given = {**HOLD, **settings}
    return Row(" ".join(f"{key}={value}" for key, value in settings.items()), given, yaml.safe_dump(given))


def timeless(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines(folder)]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 6])
def test_a_run_that_was_cut_short_is_completed_to_the_same_lines(tmp_path: Path, cut: int) -> None:
    run(subject(), episodes=7, seed=SEED, out=tmp_path / "whole", parallel=3)
    run(subject(), episodes=7, seed=SEED, out=tmp_path / "cut", parallel=3)
    path = tmp_path / "cut" / "episodes.jsonl"
    text = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(text[:cut]) + text[cut][: len(text[cut]) // 2])  # the last line was being written
    (tmp_path / "cut" / "summary.json").unlink()
    summary = run(subject(), episodes=7, seed=SEED, out=tmp_path / "cut", parallel=3, resume=True)
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")
    assert (summary["episodes"], summary["interrupted"]) == (7, False)
    kept = path.read_bytes().splitlines(keepends=True)[: cut // 3 * 3]
    assert kept == text[: cut // 3 * 3]  # complete batches are not driven again


def test_rows_are_driven_once_and_listed_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(seed=100_000), row(agent="random"), row(seed=100_002)]
    for shard in ("1/2", "0/2"):
        table = run_suite(rows, tmp_path, shard)
    text = table.read_text()
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:]] == [f"`{each.words}`" for each in rows]
    assert "| 2 |" in text
    assert (tmp_path / "index.html").is_file()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/episodes.jsonl")}
    assert len(before) == 3
    capsys.readouterr()
    assert run_suite(rows, tmp_path).read_text() == text
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/episodes.jsonl")}
    assert json.loads(next(tmp_path.glob("*random*/summary.json")).read_text())["agent"] == "random"


def test_a_row_is_what_decides_its_episodes(tmp_path: Path) -> None:
    torch_model = tiny_model()
    save(torch_model, tmp_path / "one", "# one")
    torch_model.tracker.origin.add_(1.0)
    save(torch_model, tmp_path / "two", "# two")
    planned = [row(agent="planning", model=str(tmp_path / name)).folder() for name in ("one", "two")]
    same = [row(**told).folder() for told in ({"threads": 1}, {"threads": 2}, {"out": "elsewhere"}, {"device": "cpu"})]
    others = [row(seed=3).folder(), row(parallel=2).folder(), row(agent="random").folder()]
    assert len(set(same)) == 1
    assert len({*planned, *same, *others}) == 6
    (tmp_path / "two" / "README.md").write_text("another card")
    assert row(agent="planning", model=str(tmp_path / "two")).folder() == planned[1]


@pytest.mark.parametrize(
    ("section", "key", "concerned", "others"),
    [
        ("planner", "name", ["planning", "oracle"], ["hold", "random"]),
        ("planning", "horizon", ["planning"], ["oracle", "hold"]),
        ("oracle", "rest", ["oracle"], ["planning", "hold"]),
    ],
)
def test_a_setting_makes_another_row_of_the_agents_it_concerns(
    section: str, key: str, concerned: list[str], others: list[str]
) -> None:
    changed = {section: {**DRIVE[section], key: "another"}}
    for agents, differ in ((concerned, True), (others, False)):
        for agent in agents:
            assert (row(agent=agent).folder() != row(agent=agent, **changed).folder()) is differ
    later = {section: {**DRIVE[section], "came_later": None}}
    assert row(agent="planning").folder() == row(agent="planning", **later).folder()


def half(folder: Path) -> bytes:
    """Begin a row, as if it was killed after its third episode; what is there of it."""
    run(subject(), episodes=7, seed=SEED, out=folder, parallel=3)
    path = folder / "episodes.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    (folder / "summary.json").unlink()
    return path.read_bytes()


@pytest.mark.parametrize("known", [BEGUN, "summary.json", None])
def test_a_row_of_another_protocol_is_not_completed_under_this_one(tmp_path: Path, known: str | None) -> None:
    before = half(tmp_path)
    (tmp_path / BEGUN).unlink()
    card = {"version": 1, "sha256": "1" * 64}
    if known is not None:
        (tmp_path / known).write_text(json.dumps(card if known == BEGUN else {"protocol": card}))
    with pytest.raises(
        ConfigError, match=f"got some of version {1 if known else 'unknown'}, .*remove that folder"
    ) as told:
        run(subject(), episodes=7, seed=SEED, out=tmp_path, parallel=3, resume=True)
    assert "\n" not in str(told.value)
    assert (tmp_path / "episodes.jsonl").read_bytes() == before


def test_a_baseline_that_is_not_trained_yet_stops_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {agent: tmp_path / "runs" / name / "model" for agent, name in LATER.items()}
    later = [row(agent=agent, baseline=str(folder), episodes=1) for agent, folder in folders.items()]
    rows = [later[0], row(episodes=1), later[1], row(agent="random", episodes=1)]
    rows.append(row(**{**later[0].settings, "shift": "colour"}))
    for shard in ("0/2", "1/2"):
        table = run_suite(rows, tmp_path / "out", shard)
    kept = [line.split("|")[1].strip() for line in table.read_text().splitlines()[2:]]
    assert kept == [f"`{rows[1].words}`", f"`{rows[3].words}`"], "each shard drove its own"
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    first, second = told[:2]
    assert told == [first, second] * 2
    assert f"dreamerv3 on jaco_reach, dreamerv3 on jaco_reach, for lack of {folders['dreamerv3']}; " in first
    out = folders["dreamerv3"].parent
    train = f"worldmodel baseline kind=dreamerv3 kind.sees=pixels kind.reward=success data=DIR,DIR out={out}"
    assert first.endswith(train)
    assert "worldmodel baseline kind=inverse_dynamics data=DIR,DIR out=" in second
    nothing = run_suite(later, tmp_path / "none")
    assert nothing.read_text().splitlines()[2:] == []


def test_rows_of_a_task_with_a_model_of_its_own_name_it() -> None:
    usual, named = "jaco", set()  # what rows get from `bench` unless they say something else
    for suite in sorted((CONFIGS / "suite").glob("*.yaml")):
        for row in yaml.safe_load(suite.read_text()).get("rows", ()):
            given = {"agent": "planning", **dict(word.split("=") for word in row.split())}
            own = yaml.safe_load((CONFIGS / "task" / f"{given['task']}.yaml").read_text())["model"]
            if given["agent"] == "planning" and own != usual:
                assert given.get("model", "nothing").partition("/")[0] in (own, "runs"), f"{suite.name}: {row}"
                named.add(given["task"])
    assert named == {"jaco_place", "jaco_rearrange", "navigate"}


@pytest.mark.parametrize("suite", ["main", "dreamerv3"])
def test_the_folders_that_suites_name_are_those_that_are_trained(suite: str) -> None:
    words = yaml.safe_load((CONFIGS / "suite" / f"{suite}.yaml").read_text())["rows"]
    given = [dict(word.split("=") for word in each.split()) for each in words]
    own = [each for each in given if "baseline" in each]
    for each in own:
        _, kind, model = each["baseline"].rsplit("/", 2)
        assert model == "model"
        recipe = RECIPES.get(kind, f"kind={kind}").split()
        assert recipe[0] == f"kind={each['agent']}"
        known = comments(CONFIGS / "kind" / f"{each['agent']}.yaml")
        assert {word.partition("=")[0].removeprefix("kind.") for word in recipe[1:]} <= set(known)
    for agent in {each["agent"] for each in own}:
        tasks = [each["task"] for each in own if each["agent"] == agent]
        assert tasks.count("jaco_reach") == tasks.count("jaco_push") > 0
    agents = [each["agent"] for each in given]
    if suite == "main":
        needed = {"planning", "oracle", "hold", "random", "behaviour_cloning", "inverse_dynamics", "pixel_prediction"}
        assert {*needed, "dreamerv3"} == set(agents)
    else:
        assert agents[-2:] == ["dreamerv3_planning"] * 2, "what needs a GPU comes last"


def test_some_agents_of_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "['task=jaco_reach agent=hold episodes=1','task=jaco_reach agent=oracle']"
    words = ["bench", "suite=smoke", f"suite.rows={rows}", f"out={tmp_path / 'rows'}"]
    assert main([*words, "agents=[hold]"]) == 0
    assert [path.parent.name.split("-")[1] for path in (tmp_path / "rows").glob("*/summary.json")] == ["hold"]
    assert main([*words, "agents=hold"]) == 2
    assert capsys.readouterr().err.endswith("error: expected [a, list] or null for 'agents' of bench, got 'hold'\n")
    with pytest.raises(ConfigError, match="expected no shard, cluster or agents for suite=latency"):
        bench(suite={"name": "latency"}, out=tmp_path / "none", agents=["hold"])


def test_agents_that_a_suite_does_not_have_are_named() -> None:
    rows = [row(), row(agent="random"), row(agent="oracle"), row(seed=3)]
    assert of_agents(rows, None, "main") == rows
    assert of_agents(rows, ["oracle", "hold"], "main") == [rows[0], rows[2], rows[3]]
    for given, said in (
        (["hold", "rando"], "unknown agent 'rando' for suite=main: did you mean 'random'? (hold | random | oracle)"),
        ([7], "unknown agent '7' for suite=main (hold | random | oracle)"),
        ([], "expected some of hold, random, oracle as agents of suite=main, got none: name one"),
    ):
        with pytest.raises(ConfigError) as told:
            of_agents(rows, given, "main")  # type: ignore[arg-type]
        assert str(told.value) == said


@pytest.mark.parametrize("shard", ["1/1", "2", "a/b", "-1/2", ""])
def test_impossible_shards_are_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(ConfigError, match="expected shard=i/n"):
        run_suite([row()], tmp_path, shard)


def test_the_same_row_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected rows that differ"):
        run_suite([row(), row(threads=2)], tmp_path)
