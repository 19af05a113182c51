"""What a run says at its end, and while something is in its way: sentences, exit codes, one endpoint, lines of JSON."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import redis
import structlog

from millrace import awaiting, cli
from millrace.cli.exits import TOO_MANY_DEAD
from millrace.embedded import Embedded
from millrace_pipeline.errors import QueueUnavailable
from tests.conftest import eventually
from tests.integration.ports import free_port
from tests.services import PATIENCE, Place

if TYPE_CHECKING:
    import typer

SOME_FIT = """\
from pydantic import BaseModel


class Even(BaseModel):
    n: int


def odd_ones_fail(record):
    if record["n"] % 10 == 0:
        raise ValueError(f"{record['n']} is a ten")
    print("a library says something")
    return record
"""


def of_lines(place: Place, **options: object) -> None:
    (place.folder / "in.jsonl").write_text("".join(f'{{"n": {number}}}\n' for number in range(100)))
    place.module(SOME_FIT)
    place.flow(source={"type": "files", "path": "in.jsonl"}, transforms=["theirs:odd_ones_fail"], **options)


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ({}, (), 0),
        ({"dead": {"fail_above": "10%"}}, (), 0),
        ({"dead": {"fail_above": "9.5%"}}, (), TOO_MANY_DEAD),
        ({}, ("--fail-on-dead",), TOO_MANY_DEAD),
    ],
)
def test_too_many_dead_letters_are_exit_code_3(place: Place, options: dict, words: tuple[str, ...], code: int) -> None:
    of_lines(place, **options)
    run = place.start("run", "--until-empty", *words)
    assert run.wait() == code, run.said
    (done,) = run.events("flow_done")
    counts = {name: done[name] for name in ("published", "delivered", "dead", "left")}
    assert counts == {"published": 100, "delivered": 90, "dead": 10, "left": 0}
    assert done["look"] == "millrace dead ls numbers"
    warned = run.events("record_dead_lettered")
    assert 1 + sum(event.get("more_like_this", 0) for event in warned) == 10
    assert len(warned) <= 2


def test_a_consumer_and_a_producer_by_themselves_end_with_3_too(place: Place) -> None:
    of_lines(place, dead={"fail_above": "5%"})
    assert place.produce().wait() == 0
    consumer = place.consume("--until-empty")
    assert consumer.wait() == TOO_MANY_DEAD
    (told,) = consumer.events("too_many_dead")
    assert (told["dead"], told["records"], told["share"]) == (10, 100, "10.0%")


@pytest.mark.parametrize("words", [("run", "--until-empty"), ("run", "--inline"), ("produce", "numbers")])
@pytest.mark.parametrize(("lines", "code"), [("{no\n" * 3, TOO_MANY_DEAD), ("{no\n" * 3 + '{"n": 1}\n' * 2, 0)])
def test_the_share_of_dead_letters_is_one_for_run_inline_and_produce(
    place: Place, words: tuple[str, ...], lines: str, code: int
) -> None:
    """A dead letter is published too, and counts once: three of three are 100%, and three of five are 60%."""
    (place.folder / "in.jsonl").write_text(lines)
    place.flow(source={"type": "files", "path": "in.jsonl"}, dead={"fail_above": "60%"})
    service = place.start(*words)
    assert service.wait() == code, service.said
    told = [(event["dead"], event["records"], event["share"]) for event in service.events("too_many_dead")]
    assert told == ([(3, 3, "100.0%")] if code else [])


@pytest.mark.parametrize(
    "words", [("run", "--until-empty"), ("run", "--inline"), ("consume", "numbers", "--until-empty")]
)
@pytest.mark.parametrize(("share", "code"), [("9.9%", TOO_MANY_DEAD), ("10%", 0)])
def test_the_share_of_dead_letters_is_one_for_run_inline_and_consume(
    place: Place, words: tuple[str, ...], share: str, code: int
) -> None:
    of_lines(place, dead={"fail_above": share})
    if words[0] == "consume":
        assert place.produce().wait() == 0
    service = place.start(*words)
    assert service.wait() == code, service.said
    told = [(event["dead"], event["records"], event["share"]) for event in service.events("too_many_dead")]
    assert told == ([(10, 100, "10.0%")] if code else [])


def test_a_redirected_log_is_json_lines_each_with_its_flow_and_service(place: Place) -> None:
    of_lines(place)
    run = place.start("run", "--until-empty", "--consumers", "2")
    assert run.wait() == 0
    events = [json.loads(line) for line in run.said.splitlines()]
    names = {event["service"] for event in events}
    assert names == {"run", "producer-numbers", "consumer-numbers-1", "consumer-numbers-2"}
    told = [event for event in events if event["service"] != "run" and event["event"] != "a library says something"]
    assert {event["flow"] for event in told} == {"numbers"}
    assert any(event["event"] == "a library says something" for event in events)


def test_one_endpoint_has_the_metrics_of_all_services_of_a_run(place: Place) -> None:
    of_lines(place)
    port = free_port()
    run = place.start("run", MILLRACE_HTTP=f"127.0.0.1:{port}")

    def asked(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    eventually(lambda: run.events("http_serves"), PATIENCE)
    numbers = r'millrace_records_{}_total{{flow="numbers"}} {}'
    eventually(lambda: re.search(numbers.format("published", "100.0"), asked("/metrics")), PATIENCE)
    eventually(lambda: re.search(numbers.format("delivered", "90.0"), asked("/metrics")), PATIENCE)
    assert asked("/livez") == "ok\n"
    assert run.terminate() == 0
    assert not run.events("services_failed")


@pytest.mark.parametrize("words", [("produce", "numbers"), ("consume", "--until-empty"), ("run", "--until-empty")])
def test_without_a_redis_a_service_ends_with_1_and_a_reason(place: Place, words: tuple[str, ...]) -> None:
    of_lines(place)
    url = f"redis://127.0.0.1:{free_port()}/0"
    service = place.start(*words, REDIS_URL=url, MILLRACE_REDIS_SECONDS="2")
    assert service.wait() == 1
    assert len(service.events("redis_unavailable")) == 1
    last = [json.loads(line) for line in service.said.splitlines()][-1]
    assert (last["event"], last["level"]) == ("command_failed", "error")
    assert f"no Redis at {url} for 2 s" in last["reason"]


@pytest.mark.parametrize("words", [("produce", "numbers"), ("consume", "--until-empty"), ("run", "--until-empty")])
@pytest.mark.parametrize("style", ["auto", "json"])
def test_what_is_wrong_with_the_flows_is_an_event_of_a_service(
    place: Place, words: tuple[str, ...], style: str
) -> None:
    place.flow(lease="jsnol")
    service = place.start(*words, MILLRACE_LOG=style)
    assert service.wait() == 2, service.said
    (last,) = [json.loads(line) for line in service.said.splitlines()]
    assert (last["event"], last["level"], last["service"]) == ("command_failed", "error", words[0])
    assert "jsnol" in last["reason"]


@pytest.mark.parametrize(("words", "style"), [(("run",), "pretty"), (("check",), "json"), (("status",), "auto")])
def test_what_is_wrong_is_plain_for_people(place: Place, words: tuple[str, ...], style: str) -> None:
    place.flow(lease="jsnol")
    service = place.start(*words, MILLRACE_LOG=style)
    assert service.wait() != 0, service.said
    assert "jsnol" in service.said + service.printed
    assert "command_failed" not in service.said


def test_a_mistake_of_ours_is_an_event_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("sys.argv", ["millrace", "produce", "numbers"])
    with pytest.raises(SystemExit) as ended:
        cli._run(cast("typer.Typer", broken))
    assert ended.value.code == 1
    (event,) = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert (event["event"], event["reason"], event["level"]) == ("command_failed", "KeyError: 'ours'", "error")
    assert event["exception"][0]["frames"][-1]["name"] == "broken"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "--until-empty"), "numbers: 90 delivered, 10 dead: millrace dead ls numbers"),
        (("consume", "--until-empty"), "numbers: 90 delivered, 10 dead: millrace dead ls numbers"),
        (("produce", "numbers"), "numbers: 100 published"),
        (("run", "--inline"), "numbers: 90 delivered, 10 dead: `millrace run numbers` keeps them"),
    ],
)
def test_for_people_it_ends_with_a_sentence_a_flow(place: Place, words: tuple[str, ...], told: str) -> None:
    of_lines(place)
    if words[0] == "consume":
        assert place.produce().wait() == 0
    service = place.start(*words, MILLRACE_LOG="pretty")
    assert service.wait() == 0, service.said
    assert told in service.said.splitlines()
    assert len(told) <= 80


def test_each_service_says_where_its_dead_letters_are(place: Place) -> None:
    (place.folder / "in.jsonl").write_text('{no\n{"n": 1}\n{"n": 10}\n')
    place.module(SOME_FIT)
    place.flow(source={"type": "files", "path": "in.jsonl"}, transforms=["theirs:odd_ones_fail"])
    producer = place.produce()
    assert producer.wait() == 0
    assert producer.events("producer_done", dead=1, look="millrace dead ls numbers")
    consumer = place.consume("--until-empty")
    assert consumer.wait() == 0
    assert consumer.events("consumer_done", dead=1, look="millrace dead ls numbers")
    inline = place.start("run", "--inline")
    assert inline.wait() == 0
    assert "look" in inline.events("inline_done", dead=2)[0]
    again = place.consume("--until-empty")
    assert again.wait() == 0
    assert "look" not in again.events("consumer_done")[0]


SERVICES = [("run", "--until-empty"), ("produce", "numbers"), ("consume", "numbers", "--until-empty")]


@pytest.fixture
def own(place: Place, tmp_path: Path) -> Iterator[redis.Redis]:
    """A Redis of the test's own, which the place goes by."""
    with Embedded(data_dir=tmp_path / "own") as server, redis.Redis.from_url(server.url) as client:
        place.redis_url = server.url
        yield client


@pytest.mark.parametrize("words", SERVICES)
def test_a_redis_that_evicts_is_refused_at_once_with_the_reason_last(
    place: Place, own: redis.Redis, words: tuple[str, ...]
) -> None:
    of_lines(place)
    own.config_set("maxmemory-policy", "allkeys-lru")
    told_once_with_2(place, words, "maxmemory-policy is allkeys-lru")


@pytest.mark.parametrize("words", SERVICES)
def test_a_wrong_password_is_refused_at_once_with_the_reason_last(
    place: Place, own: redis.Redis, words: tuple[str, ...]
) -> None:
    of_lines(place)
    own.config_set("requirepass", "right")
    place.redis_url = place.redis_url.replace("//", "//:wrong@")
    told_once_with_2(place, words, "Check the user, the password and the ACL in REDIS_URL")


@pytest.mark.parametrize("words", SERVICES)
def test_a_missing_password_is_refused_at_once_with_the_reason_last(
    place: Place, own: redis.Redis, words: tuple[str, ...]
) -> None:
    of_lines(place)
    own.config_set("requirepass", "right")
    told_once_with_2(place, words, "this Redis wants a password; REDIS_URL has none")


@pytest.mark.parametrize("words", SERVICES)
def test_a_port_that_is_taken_is_refused_at_once_with_the_reason_last(place: Place, words: tuple[str, ...]) -> None:
    of_lines(place)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told_once_with_2(place, words, f"MILLRACE_HTTP: can't listen on {address}", MILLRACE_HTTP=address)


@pytest.mark.parametrize("words", SERVICES[:2])
def test_a_misspelt_spider_is_refused_at_once_with_the_reason_last(place: Place, words: tuple[str, ...]) -> None:
    place.flow(source={"type": "scrapy", "spider": "qoutes"})
    told_once_with_2(place, words, "qoutes")


def told_once_with_2(place: Place, words: tuple[str, ...], reason: str, **environ: str) -> None:
    service = place.start(*words, **environ)
    assert service.wait() == 2, service.said
    last = [json.loads(line) for line in service.said.splitlines()][-1]
    assert reason in last["reason"]
    assert (last["event"], last["level"], last["service"]) == ("command_failed", "error", last["service"])
    assert service.said.count(reason) == 1
    assert not service.events("service_failed"), service.said


def test_a_redis_that_is_away_is_said_again_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "AGAIN_SECONDS", 1.0)
    url = f"redis://127.0.0.1:{free_port()}/0"
    with structlog.testing.capture_logs() as logs, pytest.raises(QueueUnavailable, match=f"no Redis at {url} for"):
        awaiting.await_redis(url, 3.5)
    reasons = [log["reason"] for log in logs if log["event"] == "redis_unavailable"]
    assert len(reasons) >= 3
    assert all(reason.startswith(f"still no Redis at {url} (") for reason in reasons[1:])
