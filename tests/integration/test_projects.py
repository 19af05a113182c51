"""Every command acts on the Redis of its own folder's flows, says which that is, and leaves other projects' alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import typer

from millrace import cli
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.keys import Keys
from tests.integration.projects import KEY, Folder, all_of, books_at, plain_server
from tests.queues import Queue

LOOKS = {
    "status": "status --json",
    "history": "history log --json",
    "top": "top --json",
    "where": "where log KEY --json",
    "verify": "verify --sink --json",
    "check": "check --connect",
    "dead ls": "dead ls log --json",
    "dead show": "dead show log ID",
    "dead export": "dead export log",
    "variants ls": "variants ls log --json",
    "variants export": "variants export log",
    "tap": "tap log --ready --format json",
    "audit": "audit log --json",
    "checkpoint show": "checkpoint show log",
    "alerts ls": "alerts ls log",
    "crawl status": "crawl status --json",
}
"""Looks at a flow's list, and changes nothing."""

CHANGES = {
    "dead replay": "dead replay log --all --yes",
    "dead drop": "dead drop log --all --yes",
    "dead edit": "dead edit log ID",
    "variants replay": "variants replay log --all --yes",
    "variants drop": "variants drop log --all --yes",
}
"""Changes what is on a flow's list, or beside it."""

STEERS = {
    "pause": "pause log",
    "resume": "resume log",
    "purge": "purge log --away --yes",
    "requeue": "requeue log BATCH --force",
    "checkpoint set": """checkpoint set log "7" --yes""",
    "checkpoint reset": "checkpoint reset log --yes",
    "repartition": "repartition log --yes",
    "crawl add": "crawl add log http://127.0.0.1:1/",
    "crawl pause": "crawl pause log",
    "crawl resume": "crawl resume log",
    "crawl stop": "crawl stop log --yes",
    "crawl dead replay": "crawl dead replay log 1",
    "crawl dead drop": "crawl dead drop log --all --yes",
}
"""Steers who works on a flow's list, or what its spiders fetch."""

LOOKS_AT_A_CRAWL = {
    "crawl export": "crawl export log",
    "crawl dead ls": "crawl dead ls log",
    "crawl dead show": "crawl dead show log 1",
}
"""Looks at what the spiders of a flow fetch, of which there are none here."""

SERVES = {"run": "run --until-empty", "produce": "produce log", "consume": "consume --until-empty"}
"""Puts records on the list, takes them off it, and marks it."""

BRINGS_ITS_OWN = {"demo", "chaos"}
"""Starts a server for itself alone, or a stack of its own."""

ASKS_NONE = {"schema": "schema", "init": "init new", "docs": "docs", "test": 'test log --record {"n":1}'}
NEEDS_MORE = {
    *("lake compact", "lake vacuum", "up", "down", "scale", "logs", "ps", "access", "ui", "alerts test"),
    *("scaler", "autoscale", "render compose", "render swarm", "render kubernetes", "render secrets"),
}
"""Asks no Redis either, or serves until it is stopped; what these ask is not here."""


def commands() -> set[str]:
    """Every command that there is."""
    if not cli.app.registered_commands:
        cli.compose([])

    def walk(command: Any, name: str) -> Iterator[str]:
        if not hasattr(command, "commands"):
            yield name
        for inner, found in getattr(command, "commands", {}).items():
            yield from walk(found, f"{name} {inner}".strip())

    return set(walk(typer.main.get_command(cli.app), ""))


def test_of_every_command_it_is_known_which_redis_it_asks() -> None:
    """A new command goes into one of the tables above, and so through the tests below."""
    known = [*LOOKS, *LOOKS_AT_A_CRAWL, *CHANGES, *STEERS, *SERVES, *BRINGS_ITS_OWN, *ASKS_NONE, *NEEDS_MORE]
    assert sorted(known) == sorted(commands())


@pytest.fixture(scope="module")
def nobodys() -> Iterator[str]:
    """The Redis at the default address."""
    with plain_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _empty(nobodys: str) -> None:
    with redis.Redis.from_url(nobodys) as client:
        client.flushall()


@pytest.fixture(scope="module")
def prepared(nobodys: str, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A project of 7 records that ran until it was empty: its server is down."""
    folder = Folder(tmp_path_factory.mktemp("prepared") / "ours", nobodys).write(7, function="others", path="ours")
    run = folder.call("run", "--until-empty")
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture
def ours(prepared: Folder, tmp_path: Path) -> Iterator[Folder]:
    folder = prepared.copy(tmp_path / "ours")
    yield folder
    folder.end()


@pytest.fixture
def theirs(nobodys: str, tmp_path: Path) -> Folder:
    """Another project, of 3 records, whose flow has the same name and list; it has put them on the default Redis."""
    folder = Folder(tmp_path / "theirs", nobodys).write(3, path="theirs")
    ran = folder.call("run", "--until-empty", REDIS_URL=nobodys)
    assert ran.returncode == 0, ran.stderr
    return folder


def words(command: str, url: str) -> list[str]:
    """The command, with the id of a dead letter for ID, and what its record is known by for KEY."""
    queue = Queue(url, KEY)
    try:
        letter = next(iter(DeadLetters(queue).newest()))
    finally:
        queue.close_all()
    known = {"ID": letter.id, "KEY": json.loads(letter.record)["id"]}
    return [known.get(word, word) for word in command.split()]


EDITOR = "sed -i s/-1/100/"


@pytest.mark.parametrize("command", LOOKS.values(), ids=LOOKS)
def test_a_command_looks_at_the_folder_s_own_list_though_its_server_is_down(
    ours: Folder, theirs: Folder, nobodys: str, command: str
) -> None:
    before = all_of(nobodys)
    with ours.server() as url:
        arguments = words(command, url)
        assert set(map(int, (books_at(url).published, books_at(nobodys).published))) == {9, 5}
    done = ours.call(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Redis: the embedded Valkey of this folder (.millrace/, redis://127.0.0.1:")
    if command.endswith("--json"):
        json.loads(done.stdout)
    if command.startswith("status"):
        assert json.loads(done.stdout)["log"]["delivered"] == 7
    if command.startswith("verify"):
        assert json.loads(done.stdout)["log"]["sink"]["missing"] == 0
    assert not ours.home.running()
    assert all_of(nobodys) == before


@pytest.mark.parametrize("command", CHANGES.values(), ids=CHANGES)
def test_a_command_changes_the_folder_s_own_list_and_no_other(
    ours: Folder, theirs: Folder, nobodys: str, command: str
) -> None:
    before = all_of(nobodys)
    with ours.server() as url:
        arguments, books = words(command, url), books_at(url)
    done = ours.call(*arguments, EDITOR=EDITOR)
    assert done.returncode == 0, done.stderr
    after = ours.books()
    assert (after.dead, after.variants) != (books.dead, books.variants)
    assert after.difference == 0
    assert all_of(nobodys) == before


@pytest.mark.parametrize("command", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("told", [True, False], ids=["REDIS_URL", "default"])
def test_a_list_that_another_flows_file_made_is_left_alone(
    theirs: Folder, nobodys: str, tmp_path: Path, command: str, told: bool
) -> None:
    fresh = Folder(tmp_path / "fresh", nobodys).write(7, function="others", path="ours")
    before = all_of(nobodys)
    environ = {"EDITOR": EDITOR, **({"REDIS_URL": nobodys} if told else {})}
    arguments = words(command, nobodys)
    done = fresh.call(*arguments, **environ)
    assert done.returncode == 2, done.stderr
    for said in (nobodys, KEY, str(theirs.path), str(fresh.path), "project: NAME", "--any-project", "REDIS_URL"):
        assert said in done.stderr
    assert all_of(nobodys) == before
    done = fresh.call(*arguments, "--any-project", **environ)
    assert done.returncode == 0, done.stderr
    assert all_of(nobodys) != before
    assert not fresh.home.used


@pytest.mark.parametrize("command", STEERS.values(), ids=STEERS)
@pytest.mark.parametrize("told", [True, False], ids=["REDIS_URL", "default"])
def test_nobody_steers_the_flow_of_another_project_by_mistake(
    theirs: Folder, nobodys: str, tmp_path: Path, command: str, told: bool
) -> None:
    fresh = Folder(tmp_path / "fresh", nobodys).write(7, function="others", path="ours")
    before = all_of(nobodys)
    done = fresh.call(*words(command, nobodys), **({"REDIS_URL": nobodys} if told else {}))
    assert done.returncode == 2, done.stderr
    for said in (nobodys, KEY, str(theirs.path), str(fresh.path), "project: NAME", "--any-project", "REDIS_URL"):
        assert said in done.stderr
    assert all_of(nobodys) == before


@pytest.mark.parametrize("command", [*LOOKS.values(), *LOOKS_AT_A_CRAWL.values()], ids=[*LOOKS, *LOOKS_AT_A_CRAWL])
def test_who_looks_at_another_project_s_list_is_told(
    theirs: Folder, nobodys: str, tmp_path: Path, command: str
) -> None:
    fresh = Folder(tmp_path / "fresh", nobodys).write(3, function="others", path="ours")
    done = fresh.call(*words(command, nobodys), REDIS_URL=nobodys.replace("//", "//:@"))
    assert f"Redis: {nobodys}\n" in done.stderr
    assert f"log: list {KEY} there is another project's" in done.stderr
    assert str(theirs.path) in done.stderr


@pytest.mark.parametrize("command", [*CHANGES.values(), *SERVES.values()], ids=[*CHANGES, *SERVES])
def test_the_embedded_valkey_of_another_folder_is_not_the_default(
    prepared: Folder, tmp_path: Path, command: str
) -> None:
    running = prepared.copy(tmp_path / "running")
    with running.server() as url:
        before = all_of(url)
        fresh = Folder(tmp_path / "fresh", url).write(7)
        done = fresh.call(*words(command, url))
        if command.startswith("run"):
            assert done.returncode == 0  # which brings one of its own
        else:
            assert done.returncode == 2
            assert "the embedded Valkey of another folder" in done.stderr
        assert all_of(url) == before


@pytest.mark.parametrize("command", ["dead drop log --all --yes"])
def test_a_list_without_a_mark_on_a_server_that_nobody_named_is_left_alone(
    theirs: Folder, nobodys: str, command: str
) -> None:
    with redis.Redis.from_url(nobodys) as client:
        client.delete(Keys(KEY).project)
    done = theirs.call(*command.split())
    assert done.returncode == 2, done.stderr
    assert "bears no mark" in done.stderr
    assert books_at(nobodys).dead == 1
    assert theirs.call(*command.split(), REDIS_URL=nobodys).returncode == 0
    assert books_at(nobodys).dead == 0


def test_a_copy_of_the_flows_file_elsewhere_may_change_the_list(theirs: Folder, nobodys: str, tmp_path: Path) -> None:
    copy = theirs.copy(tmp_path / "copy")
    done = copy.call("dead", "drop", "log", "--all", "--yes", REDIS_URL=nobodys)
    assert done.returncode == 0, done.stderr
    assert "another project" not in done.stderr


@pytest.mark.parametrize("command", ASKS_NONE.values(), ids=ASKS_NONE)
def test_a_command_that_needs_no_redis_asks_none(tmp_path: Path, command: str) -> None:
    folder = Folder(tmp_path / "folder", "redis://127.0.0.1:1/0").write(3)
    done = folder.call(*command.split(), REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 0, done.stderr
    assert "Redis:" not in done.stderr
    assert not folder.home.used


def test_services_without_names_say_that_the_list_is_another_s_and_leave_its_mark(
    theirs: Folder, nobodys: str, tmp_path: Path
) -> None:
    fresh = Folder(tmp_path / "fresh", nobodys).write(3, function="others", path="ours")
    before = all_of(nobodys)[Keys(KEY).project.encode()]
    for command in SERVES.values():
        done = fresh.call(*command.split(), REDIS_URL=nobodys)
        assert done.returncode == 0, done.stderr
        assert '"list_of_another_project"' in done.stderr
    assert all_of(nobodys)[Keys(KEY).project.encode()] == before
    assert fresh.call("consume", "--until-empty", "--take-over", REDIS_URL=nobodys).returncode == 0
    assert fresh.call("dead", "drop", "log", "--all", "--yes", REDIS_URL=nobodys).returncode == 0
    assert theirs.call("dead", "drop", "log", "--all", "--yes", REDIS_URL=nobodys).returncode == 2


@pytest.mark.parametrize("command", SERVES.values(), ids=SERVES)
def test_a_service_refuses_the_list_of_a_project_with_another_name(
    theirs: Folder, nobodys: str, tmp_path: Path, command: str
) -> None:
    theirs.write(3, path="theirs", head="project: shop\n")
    assert theirs.call("consume", "--until-empty", REDIS_URL=nobodys).returncode == 0
    before = all_of(nobodys)
    other = Folder(tmp_path / "other", nobodys).write(3, path="theirs", head="project: bank\n")
    done = other.call(*command.split(), REDIS_URL=nobodys)
    assert done.returncode == 2, done.stderr
    assert "project shop" in done.stderr
    assert "project bank" in done.stderr
    assert {key: value for key, value in all_of(nobodys).items() if b":session:" not in key} == {
        key: value for key, value in before.items() if b":session:" not in key
    }


def test_a_folder_s_own_server_is_its_own_however_the_flow_was_edited(ours: Folder) -> None:
    ours.write(7, function="some", path="elsewhere", head="project: new\n")
    done = ours.call("run", "--until-empty")
    assert done.returncode == 0, done.stderr
    assert "list_of_another_project" not in done.stderr
    assert ours.call("dead", "drop", "log", "--all", "--yes").returncode == 0
