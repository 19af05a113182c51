"""Whose a list is: what a flows file says of itself, and when that is the same project."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load
from millrace_pipeline.flows.project import Project

LOG = "  log: {source: {type: sse, url: '${FROM:-http://a.example/}'}, sink: {type: jsonl, path: 'out/${TO:-log}'}}"


def project(folder: Path, flows: str = LOG, head: str = "", flow: str = "log", **environ: str) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "flows.yaml").write_text(f"{head}flows:\n{flows}\n")
    return load(folder / "flows.yaml", environ)[flow].project


def test_a_copy_elsewhere_with_other_variables_is_the_same_project(tmp_path: Path) -> None:
    here = project(tmp_path / "here")
    there = project(tmp_path / "there", FROM="http://b.example/", TO="other")
    assert here.place != there.place
    assert here.is_of(there)


def test_variables_that_are_not_set_here_change_nothing(tmp_path: Path) -> None:
    flows = LOG.replace("${FROM:-http://a.example/}", "${FROM}")
    assert project(tmp_path / "a", flows).is_of(project(tmp_path / "b", flows, FROM="http://b.example/"))


EDITS = {
    "flow": ("log:", "diary:"),
    "source": ("a.example", "b.example"),
    "sink": ("out/", "elsewhere/"),
}


def edited(*parts: str) -> str:
    flows = LOG
    for part in parts:
        assert EDITS[part][0] in flows
        flows = flows.replace(*EDITS[part])
    return flows


@pytest.mark.parametrize("part", EDITS)
def test_one_part_may_be_edited_without_losing_the_list(tmp_path: Path, part: str) -> None:
    after = project(tmp_path / "after", edited(part), flow="diary" if part == "flow" else "log")
    assert after.is_of(project(tmp_path / "before"))


@pytest.mark.parametrize("kept", EDITS)
def test_what_shares_one_part_alone_is_another_project(tmp_path: Path, kept: str) -> None:
    parts = [part for part in EDITS if part != kept]
    after = project(tmp_path / "after", edited(*parts), flow="log" if kept == "flow" else "diary")
    assert not after.is_of(project(tmp_path / "before"))


def test_a_mark_with_a_name_is_for_that_name_alone(tmp_path: Path) -> None:
    shop = project(tmp_path / "shop", head="project: shop\n")
    assert not project(tmp_path / "none").is_of(shop)
    assert not project(tmp_path / "other", head="project: other\n").is_of(shop)
    assert project(tmp_path / "copy", edited("source", "sink"), head="project: shop\n").is_of(shop)


def test_a_name_can_be_given_to_a_project_that_had_none(tmp_path: Path) -> None:
    assert project(tmp_path / "named", head="project: shop\n").is_of(project(tmp_path / "before"))


def test_a_project_with_a_number_for_a_name_is_called_as_it_was_typed(tmp_path: Path) -> None:
    assert project(tmp_path / "a", head="project: 2024.10\n").name == "2024.10"


@pytest.mark.parametrize("name", ["", "two words", "[a]", "{a: b}", "x" * 101])
def test_what_is_no_name_for_a_project_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"flows\.yaml:1:\d+: project: expected a name"):
        project(tmp_path, head=f"project: {name}\n")


def test_several_sinks_are_one_part(tmp_path: Path) -> None:
    two = LOG.replace("sink: {", "sink: [{type: stdout}, {")[:-1] + "]}"
    assert project(tmp_path / "one").is_of(project(tmp_path / "two", two))
    assert "jsonl" in str(project(tmp_path / "two", two))


def test_a_secret_in_the_file_is_not_in_what_is_told(tmp_path: Path) -> None:
    flows = LOG.replace("http://a.example/", "http://me:hunter2@a.example/")
    found = project(tmp_path, flows)
    assert "hunter2" not in repr(found)
    assert str(found).startswith("flow log (sse → jsonl) of ")
