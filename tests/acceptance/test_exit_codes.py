"""Exit codes: a script can tell what happened, and the page's table says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from millrace import cli
from millrace.cli import exits
from millrace_pipeline.flows.flow import load
from millrace_pipeline.queue.marks import mark
from tests.services import Place

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "exit-codes.md"

NOBODY = "redis://127.0.0.1:9/0"
ASKING = {
    "status": ["status"],
    "status of one": ["status", "numbers", "--json"],
    "top": ["top", "--once"],
    "top in a pipe": ["top", "--json"],
    "tap": ["tap", "numbers"],
    "tap what waits": ["tap", "numbers", "--ready"],
    "alerts": ["alerts", "ls"],
    "where": ["where", "numbers", "1"],
    "history": ["history", "numbers"],
    "pause": ["pause", "numbers"],
    "resume": ["resume", "numbers", "--consumers"],
    "audit": ["audit", "--json"],
    "purge": ["purge", "numbers", "--away", "--yes"],
    "requeue": ["requeue", "numbers", "b", "--whole"],
    "checkpoint show": ["checkpoint", "show", "numbers"],
    "checkpoint set": ["checkpoint", "set", "numbers", '"7"', "--yes"],
    "checkpoint reset": ["checkpoint", "reset", "numbers", "--yes"],
    "verify": ["verify"],
    "verify the files": ["verify", "--sink"],
    "verify for a while": ["verify", "--follow", "--for", "1s"],
    "dead ls": ["dead", "ls"],
    "dead ls of one": ["dead", "ls", "numbers"],
    "dead show": ["dead", "show", "numbers", "1-1"],
    "dead replay": ["dead", "replay", "numbers", "--all", "--yes"],
    "dead edit": ["dead", "edit", "numbers", "1-1"],
    "dead drop": ["dead", "drop", "numbers", "--all", "--yes"],
    "dead export": ["dead", "export", "numbers"],
    "crawl status": ["crawl", "status"],
    "crawl add": ["crawl", "add", "numbers", "https://a.example/"],
    "crawl pause": ["crawl", "pause", "numbers"],
    "crawl resume": ["crawl", "resume", "numbers"],
    "crawl stop": ["crawl", "stop", "numbers", "--yes"],
    "crawl export": ["crawl", "export", "numbers"],
    "crawl dead": ["crawl", "dead", "ls", "numbers"],
    "crawl dead replay": ["crawl", "dead", "replay", "numbers", "--all"],
    "repartition": ["repartition", "numbers", "--yes"],
    "variants ls": ["variants", "ls"],
    "variants export": ["variants", "export", "numbers"],
    "variants replay": ["variants", "replay", "numbers", "--all", "--yes"],
    "variants drop": ["variants", "drop", "numbers", "--all", "--yes"],
}
NEED_NONE = {
    "check": ["check"],
    "schema": ["schema"],
    "init": ["init", "new"],
    "docs": ["docs"],
    "test": ["test", "numbers", "--record", "{}"],
    "access": ["access", "users"],
    "version": ["--version"],
}
ELSEWHERE = {
    *("demo", "run", "produce", "consume", "chaos", "up", "down", "scale", "logs", "ps", "lake", "ui", "render"),
    *("scaler", "autoscale"),
    "alerts test",  # sends a notice, and asks no Redis
}
"""Services, which wait for a Redis or say on their page that it is away, and what brings its own or asks none."""


def commands() -> set[str]:
    """Every command there is, those of groups by both words."""
    if not cli.app.registered_commands:
        cli.compose([])
    group = typer.main.get_group(cli.app)
    found = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {one}" for one in inner} if inner else {name}
    return found


def test_every_command_is_looked_at_here() -> None:
    walked = {
        " ".join(words[: 2 if words[0] in ("dead", "crawl", "variants", "checkpoint", "alerts") else 1])
        for words in ASKING.values()
    }
    walked |= {words[0] for words in NEED_NONE.values()} | ELSEWHERE
    assert {name for name in commands() if name not in walked and name.partition(" ")[0] not in ELSEWHERE} == set()


@pytest.mark.parametrize("name", ASKING)
def test_a_command_that_asks_ends_with_4_where_no_redis_answers(place: Place, name: str) -> None:
    place.flow()
    done = place.start(*ASKING[name], REDIS_URL=NOBODY)
    assert done.wait() == exits.UNREACHED, done.said
    assert "Traceback" not in done.said
    assert "127.0.0.1:9" in done.said


@pytest.mark.parametrize("name", NEED_NONE)
def test_a_command_that_needs_no_redis_ends_with_0_without_one(place: Place, name: str) -> None:
    place.flow()
    done = place.start(*NEED_NONE[name], REDIS_URL=NOBODY)
    assert done.wait() == 0, done.said


def test_check_connect_without_redis_ends_with_1(place: Place) -> None:
    place.flow()
    done = place.start("check", "--connect", REDIS_URL=NOBODY)
    assert done.wait() == exits.FAILED, done.said


def test_verify_of_a_redis_that_never_heard_of_the_flow_says_so_and_ends_with_2(place: Place) -> None:
    place.flow()
    done = place.start("verify", "--json")
    assert done.wait() == exits.WRONG
    assert f"has never heard of it: no service has used the list {place.key_of()} there" in done.said
    assert json.loads(done.printed)["numbers"]["published"] == 0
    following = place.start("verify", "--follow", "--for", "1s")
    assert following.wait() == exits.WRONG


def test_verify_of_a_flow_that_ran_and_published_nothing_ends_with_0(place: Place) -> None:
    place.flow()
    with place.queue() as queue:
        mark(queue, load(place.folder / "flows.yaml")["numbers"].project)
    done = place.start("verify")
    assert done.wait() == 0, done.said


def test_verify_ends_with_1_for_a_missing_record_also_beside_an_unheard_of_flow(place: Place) -> None:
    place.flow()
    place.publish(range(3))
    place.flow("unheard")
    with place.queue() as queue:
        queue.ask(("RPOP", place.key_of()))
    assert place.start("verify").wait() == exits.FAILED


def test_the_page_has_each_code_and_every_help_that_names_one_agrees(place: Place) -> None:
    page = PAGE.read_text()
    told = dict(re.findall(r"^\| `(\d+)` \| ([^|]+)", page, re.MULTILINE))
    assert set(told) == {"0", "1", "2", "3", "4", "5", "27"}
    names = commands()
    group = typer.main.get_group(cli.app)
    for name in names:
        command: object = group
        for word in name.split():
            command = command.commands[word]  # type: ignore[attr-defined]
        text = getattr(command, "help", "") or ""
        _, _, codes = text.partition("Exit codes:")
        named = set(re.findall(r"(?:^|; )\s*(\d+) ", codes.replace("\n", " ")))
        assert named <= set(told), (name, named)
        if name in ("status", "verify", "dead ls", "variants ls"):
            assert "4" in named, name
