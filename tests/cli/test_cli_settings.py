"""Good commands: what reaches the verb, and what is written beside its result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from worldmodel.cli import VERBS, main
from worldmodel.cli_help import LINE
from worldmodel.cli_options import CONFIGS, config_text, flatten, settings_from

ODD = [
    "with space",
    "a=b=c",
    "[x]",
    "{y: 1}",
    "'q'",
    '"',
    "${oc.env:HOME}",
    "$(ls)",
    "ünï/日本",
    "-h",
    "#1",
    "a,b",
    "\\",
    "???x",
]
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(lambda text: text[0] != "~")


@pytest.mark.parametrize("path", ODD)
def test_odd_paths_arrive_as_typed(path: str) -> None:
    found = settings_from(VERBS["drive"].options, [f"out={path}", f"model={path}", f"goal={path}"])
    assert (found["out"], found["model"], found["goal"]) == (path, path, path)


@settings(max_examples=25)
@given(path=TEXT.filter(lambda text: text not in ("???", "null")))
def test_any_path_arrives_as_typed_and_is_kept_in_the_yaml(path: str) -> None:
    options, arguments = VERBS["drive"].options, [f"out={path}", f"goal={path}"]
    found = settings_from(options, arguments)
    assert (found["out"], found["goal"]) == (path, path)
    assert yaml.safe_load(config_text(options, arguments, found, "1")) == found


def test_home_is_expanded_and_null_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    found = settings_from(VERBS["drive"].options, ["out=~/runs", "goal=null"])
    assert found["out"] == "/somewhere/runs"
    assert found["goal"] is None


def test_data_is_a_list_of_folders(tmp_path: Path) -> None:
    (tmp_path / "one, two").mkdir()
    (tmp_path / "three").mkdir()
    text = f"{tmp_path}/one, two,{tmp_path}/three,absent,too"
    found = settings_from(VERBS["pretrain"].options, [f"data={text}", "out=x"])
    assert found["data"] == [f"{tmp_path}/one, two", f"{tmp_path}/three", "absent", "too"]


def test_groups_and_values_reach_the_verb() -> None:
    arguments = [
        "out=x",
        "task=jaco_push",
        "planner=mppi",
        "planner.num_samples=64",
        "planner.deadline=0.2",
        "threads=2",
    ]
    found = settings_from(VERBS["drive"].options, arguments)
    assert found["task"]["id"] == "worldmodel/JacoPush-v0"
    assert (found["planner"]["name"], found["planner"]["num_samples"]) == ("mppi", 64)
    assert (found["planner"]["deadline"], found["threads"]) == (0.2, 2)


def test_a_task_that_asks_for_its_own_search_gets_it_unless_told_otherwise() -> None:
    reach, place, told = (
        settings_from(VERBS["drive"].options, ["out=x", *more])
        for more in ([], ["task=jaco_place"], ["task=jaco_place", "planner=cem", "planner.num_samples=100"])
    )
    assert place["planner"]["num_samples"] < reach["planner"]["num_samples"]
    assert place["oracle"]["initial_std"] < reach["oracle"]["initial_std"]
    assert told["planner"] == {**reach["planner"], "num_samples": 100}
    assert told["oracle"] == place["oracle"]


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_setting_says_what_it_is(path: Path) -> None:
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# \S.*\.", first)
    told = ("defaults:", "- _self_")
    rows = "  - task="  # of a suite, which says above them what they are
    bare = [x for x in lines if x.strip() not in told and not x.startswith(rows) and not LINE.match(x)]
    assert bare == []


@pytest.mark.parametrize("name", VERBS)
def test_help_names_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "-h"]) == 0
    shown = capsys.readouterr().out
    for key, _ in flatten(VERBS[name].options.compose()):
        assert key.rpartition(".")[2] in ("name", "id") or f"  {key}=" in shown


def test_help_follows_the_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drive", "planner=mppi", "--help"]) == 0
    assert "planner.temperature=null" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_overview_names_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"worldmodel \S.*\n", capsys.readouterr().out)
