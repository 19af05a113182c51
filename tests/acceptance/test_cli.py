"""The `millrace` command as a user or a script meets it: help, exit codes, one clear line for each mistake."""

from __future__ import annotations

import json
import re
import socket

import pytest
import typer
from typer.testing import CliRunner

from millrace import cli
from millrace.embedded import Embedded
from tests.services import Place, Service

COMMANDS = [
    "demo",
    "init",
    "run",
    "produce",
    "consume",
    "check",
    "schema",
    "test",
    "docs",
    "status",
    "verify",
    "top",
    "where",
    "up",
    "down",
    "scale",
    "logs",
    "ps",
    "access",
]


@pytest.fixture
def nobody() -> str:
    """The URL of a Redis that isn't there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


@pytest.fixture(scope="module")
def commands() -> typer.Typer:
    """The command, put together as its main function does."""
    if not cli.app.registered_commands:
        cli.compose([])
    return cli.app


def ended(service: Service) -> int:
    """Its exit code. Whatever it was, nobody got to see a traceback."""
    code = service.wait()
    assert "Traceback" not in service.said + service.printed, service.said + service.printed
    return code


def test_help_lists_every_command(place: Place) -> None:
    overview = place.start("--help")
    assert ended(overview) == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", overview.printed), command


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example_and_its_exit_codes(commands: typer.Typer, command: str) -> None:
    told = CliRunner().invoke(commands, [command, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    assert f"Example: millrace {command}" in re.sub(r"[`│\s]+", " ", told.stdout), told.stdout
    assert "Exit codes:" in told.stdout


def test_check_ends_with_0_for_a_right_file_and_2_with_the_place_for_a_wrong_one(place: Place) -> None:
    place.flow()
    right = place.start("check")
    assert ended(right) == 0
    assert "numbers" in right.printed

    place.flow(lease="soon")
    wrong = place.start("check")
    assert ended(wrong) == 2
    assert re.match(r"flows\.yaml:\d+:\d+: flows\.numbers\.lease", wrong.said), wrong.said


def test_check_connect_ends_with_1_where_redis_throws_records_away_or_isnt_there(place: Place, nobody: str) -> None:
    place.flow()
    with Embedded(config={"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}) as evicting:
        refused = place.start("check", "--connect", REDIS_URL=evicting.url)
        assert ended(refused) == 1
        assert "allkeys-lru" in refused.printed + refused.said
    assert ended(place.start("check", "--connect", REDIS_URL=nobody)) == 1


def test_status_and_verify_show_a_flow_to_people_and_to_scripts(place: Place) -> None:
    place.flow()
    place.publish(range(12))
    for command in ("status", "verify"):
        people = place.start(command)
        assert ended(people) == 0
        assert "numbers" in people.printed
        assert "12" in people.printed
        scripts = place.start(command, "--json")
        assert ended(scripts) == 0
        found = json.loads(scripts.printed)["numbers"]
        assert (found["ready"], found["lag"], found["published"], found["difference"]) == (12, 12, 12, 0)


def test_verify_ends_with_1_where_a_record_is_missing_and_says_how_many(place: Place) -> None:
    place.flow()
    place.publish(range(12))
    with place.queue() as queue:
        queue.ask(("RPOP", place.key_of()))
    verified = place.start("verify")
    assert ended(verified) == 1
    assert "1 missing" in verified.printed


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["verify"]], ids=" ".join)
def test_a_redis_that_cant_be_reached_is_one_clear_line_and_4(place: Place, nobody: str, command: list[str]) -> None:
    place.flow()
    failed = place.start(*command, REDIS_URL=nobody)
    assert ended(failed) == 4
    assert failed.printed == ""
    asked, line = failed.said.splitlines()
    assert asked == f"Redis: {nobody}"
    assert nobody.partition("//")[2].removesuffix("/0") in line


@pytest.mark.parametrize("command", ["produce", "consume", "run", "verify"])
def test_a_typo_in_a_flows_name_lists_the_flows_and_ends_with_2(place: Place, command: str) -> None:
    place.flow("numbers")
    place.flow("letters")
    mistaken = place.start(command, "nubmers")
    assert ended(mistaken) == 2
    (line,) = mistaken.said.splitlines()
    assert "'nubmers'" in line
    assert "numbers, letters" in line


def test_no_flows_file_is_one_clear_line_and_2(place: Place) -> None:
    missing = place.start("consume")
    assert ended(missing) == 2
    assert len(missing.said.splitlines()) == 1
    assert "flows.yaml" in missing.said


def test_a_password_in_redis_url_is_never_shown(place: Place) -> None:
    place.flow()
    waiting = place.consume(REDIS_URL="redis://:hunter2@127.0.0.1:1/0")
    waiting.await_event("redis_unavailable")
    assert waiting.terminate() == 0
    wrong = place.start("status", REDIS_URL="redis:/:hunter2@127.0.0.1")
    assert ended(wrong) == 2
    for service in (waiting, wrong):
        assert "hunter2" not in service.said + service.printed


def test_the_demo_ends_with_0_balanced_books_and_two_sets_of_files(place: Place) -> None:
    demo = place.start("demo", "--seconds", "5", "--into", "shown", REDIS_URL="")
    assert ended(demo) == 0, demo.printed
    assert demo.printed.count("balanced") == 2
    assert "kill -9" in demo.printed
    assert demo.printed.count("each once") == 2
    assert "nothing lost, nothing twice" in demo.printed
    assert any((place.folder / "shown" / "quotes").rglob("*.jsonl"))
    assert any((place.folder / "shown" / "wikipedia").rglob("*.parquet"))
