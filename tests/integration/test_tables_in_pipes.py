"""Tables for people, read by programs: in a pipe no line of them is cut or folded."""

from __future__ import annotations

import json

import pytest

from tests.services import Place

LONG = "a-flow-whose-name-is-long-" + "x" * 60


@pytest.fixture
def filled(place: Place) -> Place:
    """Two flows, one with a long name, each with a dead letter of a long reason."""
    fields = "".join(f"    field_{number}: int\n" for number in range(12))
    place.module(f"from pydantic import BaseModel\n\n\nclass Number(BaseModel):\n{fields}")
    for name in (LONG, "other"):
        place.flow(name, model="theirs:Number", sink={"type": "jsonl", "path": f"out/{name}"})
        place.publish([1], name)
    done = place.consume("--until-empty")
    assert done.wait() == 0, done.said
    return place


COMMANDS = (["status"], ["verify"], ["verify", "--sink"], ["dead", "ls"], ["variants", "ls"], ["check"])


def test_no_table_is_cut_in_a_pipe(filled: Place) -> None:
    columns = "40"  # what a shell says of its terminal is not so of a pipe
    for command, done in [(command, filled.start(*command, COLUMNS=columns)) for command in COMMANDS]:
        assert done.wait() == 0, (command, done.said)
        assert LONG in done.printed, (command, done.printed)
        assert "…" not in done.printed, (command, done.printed)
    reason = filled.start("dead", "ls", "--json")
    assert reason.wait() == 0
    whole = {letter["reason"] for letter in json.loads(reason.printed)}
    listed = filled.start("dead", "ls", COLUMNS=columns)
    assert listed.wait() == 0
    assert all(len(one) > 100 for one in whole)
    assert all(" ".join(one.split()) in " ".join(listed.printed.split()) for one in whole), listed.printed


def test_dead_ls_without_a_flow_lists_all_and_with_one_lists_it(filled: Place) -> None:
    everything = filled.start("dead", "ls")
    assert everything.wait() == 0
    assert f"{LONG}: 1 dead letters in all" in everything.printed
    assert "other: 1 dead letters in all" in everything.printed
    one = filled.start("dead", "ls", "other")
    assert one.wait() == 0
    assert LONG not in one.printed
    as_json = filled.start("dead", "ls", "--json")
    assert as_json.wait() == 0
    assert {letter["flow"] for letter in json.loads(as_json.printed)} == {LONG, "other"}
