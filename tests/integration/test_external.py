"""A flow that only consumes: others push onto its list, and every command copes with a source that nobody reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from millrace.asyncapi import asyncapi
from millrace.cli.check import load_all
from millrace.cli.examine import doubts
from millrace.cli.run import _all_over
from millrace.cli.running import RunningFlow
from millrace.practice.site import PracticeSite
from millrace_pipeline.flows.flow import load
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import Supervisor
from tests.conftest import eventually
from tests.integration.test_scrapy_crawl import OUR_PROJECT, QUICK, crawl
from tests.services import PATIENCE, Place, children_of

EXTERNAL = {"type": "external"}
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "external"


@pytest.fixture
def pushed(place: Place, client: redis.Redis) -> Place:
    """Three records, a CloudEvent and what is none, as others push them, for a flow without a producer."""
    place.flow(source=EXTERNAL)
    event = {"specversion": "1.0", "id": "e", "source": "theirs", "type": "t", "data": {"n": 4}}
    client.lpush(place.key_of(), '{"n": 1}', '{"n": 2}', '{"n": 3}', json.dumps(event), "no JSON")
    return place


def test_run_starts_no_producer_and_delivers_what_was_pushed(pushed: Place, client: redis.Redis) -> None:
    run = pushed.start("run")
    run.until(lambda: pushed.numbers() == [1, 2, 3, 4])
    assert len(children_of(run.pid)) == 1
    client.lpush(pushed.key_of(), '{"n": 5}')
    run.until(lambda: pushed.numbers() == [1, 2, 3, 4, 5])
    assert run.terminate() == 0, run.said
    assert not run.events("service_started", service="producer-numbers")
    pushed.assert_once([1, 2, 3, 4, 5])
    assert (pushed.books().foreign, pushed.books().dead) == (6, 1)


def test_until_empty_ends_once_all_that_was_pushed_is_delivered(pushed: Place) -> None:
    run = pushed.start("run", "--until-empty", "-n", "2")
    assert run.wait() == 0, run.said
    pushed.assert_once([1, 2, 3, 4])


def test_a_flow_that_others_push_to_outlives_the_sources_of_its_neighbours(
    pushed: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed.flow("letters", source={"type": "stdin"})  # is refused under `run`, and given up
    monkeypatch.chdir(pushed.folder)
    settings = Settings(flows=pushed.folder / "flows.yaml", redis_url=pushed.redis_url)
    environ = {**os.environ, "REDIS_URL": pushed.redis_url, "MILLRACE_LOG": "json"}
    supervisor = Supervisor(environ=environ, say=lambda *_: None)
    running = [RunningFlow(flow, supervisor, settings, consumers=1) for flow in load(settings.flows).values()]

    def given_up() -> bool:
        supervisor.look()
        return running[1].is_read(until_empty=False)

    try:
        eventually(given_up, PATIENCE)
        eventually(lambda: pushed.books().lag == 0, PATIENCE)
        assert not _all_over(running, settings, until_empty=False, paused={})
        assert _all_over(running, settings, until_empty=True, paused={})
    finally:
        supervisor.stop(grace_seconds=20)


def test_produce_and_inline_are_refused_with_what_to_do(pushed: Place) -> None:
    produced = pushed.start("produce", "numbers")
    assert produced.wait() == 2
    assert "flows.numbers.source: there is nothing to produce: others push onto the list" in produced.said
    assert f"redis-cli LPUSH {pushed.key_of()}" in produced.said
    assert "`millrace run numbers`" in produced.said
    inline = pushed.start("run", "--inline", "numbers")
    assert inline.wait() == 2
    assert "leave --inline out" in inline.said
    for ended in (produced, inline):
        assert "Traceback" not in ended.said


COMMANDS = {
    "check": "external",
    "check --connect": "source external: others push onto its list",
    "status": "numbers",
    "verify": "balanced",
    "dead ls numbers": "JSON is malformed",
    "docs": "Others LPUSH.",
    "docs --schema numbers": "specversion",
    "schema": "source.external",
    'test numbers --record {"n":7}': "would be written",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_copes_with_a_source_that_nobody_reads(pushed: Place, command: str) -> None:
    pushed.deliver_the_rest()
    ended = pushed.start(*command.split(), COLUMNS="200")
    assert ended.wait() == 0, ended.said
    assert COMMANDS[command] in ended.printed


def test_a_line_is_tested_as_it_would_stand_on_the_list(pushed: Place) -> None:
    ended = pushed.start("test", "numbers", "--record", "7")  # a source might yield it; bare on a list it is no record
    assert ended.wait() == 1
    assert "not a record: Expected `object`" in ended.printed


def test_chaos_refuses_it(pushed: Place) -> None:
    ended = pushed.start("chaos", "--flows", "flows.yaml", "--seconds", "2")
    assert ended.wait() == 2
    assert "others push onto its list" in ended.said


def test_what_holds_only_for_published_records_is_doubted(pushed: Place) -> None:
    pushed.flow(source=EXTERNAL, dedupe={"window": "1h"})
    said = [line for line in doubts(load_all(pushed.folder / "flows.yaml").values()) if "millrace.writer" in line]
    assert [line.partition(": ")[2].partition(": ")[0] for line in said] == [
        "flows.numbers.dedupe",
        "flows.numbers.publish",
    ]


def test_a_program_that_writes_to_it_is_no_stranger(place: Place) -> None:
    place.flow(source=EXTERNAL, dedupe={"window": "1h"})
    code = (
        "import millrace\n"
        "with millrace.writer('numbers') as writer:\n"
        "    for n in (1, 2, 2): writer.write({'n': n}, key=str(n))\n"
    )
    (place.folder / "writes.py").write_text(code)
    subprocess.run(
        [sys.executable, "writes.py"], cwd=place.folder, env=os.environ | {"REDIS_URL": place.redis_url}, check=True
    )
    place.deliver_the_rest()
    place.assert_once([1, 2])
    assert place.books().foreign == 0


def test_two_lines_in_scrapys_settings_feed_it(place: Place) -> None:
    place.flow(source=EXTERNAL)
    run = place.start("run")
    run.await_event("service_started")
    with PracticeSite() as site:
        start_url = ("-a", f"start_url={site.url}")
        crawl(OUR_PROJECT, "quotes", place.redis_url, *QUICK, "-s", f"MILLRACE_KEY={place.key_of()}", *start_url)
    run.until(lambda: place.books().delivered == 100)
    assert run.terminate() == 0, run.said
    assert len({record["text"] for record in place.records()}) == 100
    assert place.books().foreign == 0


def test_the_example_delivers_what_is_pushed_and_sets_aside_what_is_no_measurement(
    place: Place, client: redis.Redis
) -> None:
    place.example("external")
    run = place.start("run", "measured")
    client.lpush(place.key_of("measured"), '{"place": "mill", "celsius": 11.5}', '{"place": "weir"}')
    eventually(lambda: place.books("measured").delivered == place.books("measured").dead == 1, PATIENCE)
    assert run.terminate() == 0, run.said
    (file,) = (place.folder / "data" / "measured").glob("*.jsonl")
    assert json.loads(file.read_text()) == {"place": "mill", "celsius": 11.5}


def test_asyncapi_says_that_others_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flows", raising=False)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    flows = load(EXAMPLE / "flows.yaml")
    said = asyncapi(flows, title="t", version="1")
    assert said["operations"]["measured.publish"]["summary"] == "Others LPUSH."
