"""Secrets are planted wherever one may be given, things go well and wrong, and nothing that we say holds one.

Every secret holds the word CANARY, or is made from one that does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from millrace.embedded import Embedded
from tests.conftest import eventually
from tests.integration.scrapyproject import QUICK
from tests.integration.sse_server import OK, ScriptedServer, answer
from tests.services import Place, Service, children_of

CANARY = "c4n4ry"
BASIC = base64.b64encode(f"{CANARY}-user:{CANARY}-pass".encode()).decode()
ENVIRON = {"TOKEN": f"{CANARY}-env", "MILLRACE_LOG_LEVEL": "debug"}
EVENTS = OK + b'id: 1\ndata: {"n": 1}\n\nid: 2\ndata: {"n": 2}\n\ndata: no JSON\n\n'

LOOKS = (
    *("check", "check --connect", "status", "status --json", "verify", "verify --json", "schema"),
    *("dead ls s", "dead ls s --json", "dead export s", "dead replay s --all --dry-run"),
    *("--help", "produce --help", "run --help", "dead --help"),
)
"""Commands that look at things, and are soon done."""

RUN_ALL = """
import json, os, sys, traceback
from millrace import cli
for words, environ in json.load(sys.stdin):
    os.environ.update(environ)
    sys.argv = ["millrace", *words.split()]
    cli.app.registered_commands.clear(); cli.app.registered_groups.clear()
    code = 0
    try:
        cli.main()
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
        code = "traceback"
    print("exit code", code, words, flush=True)
"""
"""Runs one command after the other in one process, since it is Python's imports that take time."""


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with Embedded(config={"requirepass": f"{CANARY}-redis"}) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, server: Embedded, request: pytest.FixtureRequest) -> Iterator[Place]:
    with Place(tmp_path, server.url, re.sub(r"[\[\]{} ]", "", request.node.name)) as place:
        yield place


def source(url: str, **options: Any) -> dict[str, Any]:
    """An event stream with a secret wherever one may stand."""
    url = url.replace("http://", f"http://{CANARY}-user:{CANARY}-pass@") + f"?token={CANARY}-query&v=${{TOKEN}}"
    headers = {"Authorization": f"Bearer {CANARY}-header", "X-Api-Key": "${TOKEN}"}
    quick = {"max_failures": 2, "backoff_initial": "10ms", "backoff_max": "20ms", "connect_timeout": "2s"}
    return {"type": "sse", "url": url, "headers": headers, **quick, **options}


def looked(place: Place, runs: Sequence[tuple[str, dict[str, str]]]) -> str:
    """What these commands say, each in this environment on top of the one before."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps(runs),
        cwd=place.folder,
        env=environ | ENVIRON | {"REDIS_URL": place.redis_url},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert len(re.findall(r"^exit code", done.stdout, re.MULTILINE)) == len(runs), done.stderr
    assert "exit code traceback" not in done.stdout, done.stderr
    assert_clean(done.stdout + done.stderr, "a command")
    return done.stdout + done.stderr


def assert_clean(text: str, where: str) -> None:
    found = [line for line in text.splitlines() if CANARY in line or BASIC in line]
    assert not found, f"{where} shows a secret:\n" + "\n".join(found)


def assert_silent(*services: Service) -> None:
    """None of them has shown a secret, in its log or its output."""
    for service in services:
        assert service.said
        assert_clean(service.said + service.printed, " ".join(service.arguments))


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_when_all_goes_well(place: Place, style: str) -> None:
    def endless() -> Iterator[bytes]:
        yield EVENTS
        yield from stream.silence()

    with ScriptedServer(endless) as stream:
        place.flow("s", source=source(stream.url), dedupe={"window": "1h"})
        producer = place.produce("s", http=style == "json", MILLRACE_LOG=style, **ENVIRON)
        consumer = place.consume(MILLRACE_LOG=style, **ENVIRON)
        eventually(lambda: place.books("s").delivered == 2 and place.books("s").dead == 1, 60)
        assert stream.asked[0].headers["x-api-key"] == f"{CANARY}-env", "the secrets were there"
        assert f"token={CANARY}-query&v={CANARY}-env" in stream.asked[0].line
        for process in (producer.pid, consumer.pid, *children_of(producer.pid)):
            argv = subprocess.run(["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True).stdout
            assert_clean(argv, "the process list")
        if style == "json":
            for path in ("/metrics", "/readyz", "/livez", "/"):
                assert_clean(producer.get(path)[1], path)
            said = looked(place, [(command, {}) for command in LOOKS])
            assert said.count("exit code 0") == len(LOOKS), said
        for service in (producer, consumer):
            service.terminate()
        assert_silent(producer, consumer)


REFUSALS = {
    "401": answer("401 Unauthorized", f"WWW-Authenticate: Basic realm={CANARY}"),
    "a page": answer("200 OK", "Content-Type: text/html", b"<html>"),
    "inside": answer("302 Found", f"Location: http://{CANARY}:{CANARY}@10.0.0.1/?token={CANARY}"),
    "nowhere": answer("302 Found", f"Location: ftp://{CANARY}/"),
}
FAILURES = {
    "500": answer("500 Oops", "", CANARY.encode()),
    "no HTTP": CANARY.encode() + b"\r\n\r\n",
    "no host": answer("302 Found", f"Location: http://u:{CANARY}@no.invalid/?{CANARY}"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_when_a_source_refuses(place: Place, name: str) -> None:
    with ScriptedServer(*[REFUSALS[name]] * 4) as stream:
        place.flow("s", source=source(stream.url))
        producer = place.produce("s", **ENVIRON)
        assert producer.wait() == 2
        assert_silent(producer)
        assert stream.url in producer.said, "the place is named all the same"


@pytest.mark.parametrize("name", FAILURES)
def test_when_a_source_fails(place: Place, name: str) -> None:
    with ScriptedServer(*[FAILURES[name]] * 100) as stream:
        place.flow("s", source=source(stream.url))
        producer = place.produce("s", http=True, **ENVIRON)
        producer.await_event("source_failed")
        assert_clean(producer.get("/readyz")[1] + producer.get("/metrics")[1], "the health port")
        producer.terminate()
        assert_silent(producer)


def test_when_a_crawl_goes_well_and_when_it_fails(place: Place) -> None:
    page = b"<div class=quote><span class=text>a</span><small class=author>b</small></div>"
    no_robots = answer("404 Not Found")
    good = [no_robots, answer("200 OK", "Content-Type: text/html", page)]
    bad = [no_robots, answer("302 Found", f"Location: http://u:{CANARY}@127.0.0.2:1/?token={CANARY}")]
    with ScriptedServer(*good) as well, ScriptedServer(*bad) as wrong:
        for name, server in (("well", well), ("wrong", wrong)):
            settings = QUICK | {"LOG_LEVEL": "DEBUG", "RETRY_ENABLED": False, "AN_API_KEY": f"{CANARY}-setting"}
            args = {"start_url": f"{server.url}?token=${{TOKEN}}", "password": f"{CANARY}-arg"}
            place.flow(name, source={"type": "scrapy", "spider": "quotes", "args": args, "settings": settings})
        first, second = (place.produce(name, **ENVIRON) for name in ("well", "wrong"))
        second.await_event("source_failed")
        second.terminate()
        assert first.wait() == 0, first.said
        assert_silent(first, second)


def away(server: Embedded) -> dict[str, str]:
    """Where Redis can't be reached, or refuses us."""
    return {
        "a wrong password": server.url.replace("-redis", "-wrong"),
        "nobody there": f"redis://{CANARY}:{CANARY}@127.0.0.1:1/0",
        "no such host": f"redis://{CANARY}:{CANARY}@no.invalid:6379/0",
        "who speaks no TLS": server.url.replace("redis://", "rediss://"),
        "no Sentinel": f"redis+sentinel://{CANARY}:{CANARY}@127.0.0.1:1/main/0?sentinel_password={CANARY}",
    }


WRONG = (
    f"redis://:{CANARY}/x@127.0.0.1:1/0",
    f"redis://:{CANARY}?x@127.0.0.1:1/0",
    f"redis://:{CANARY}#x@127.0.0.1:1/0",
    f"redis://127.0.0.1:{CANARY}/0",
    f"redis://127.0.0.1:1/{CANARY}",
    f"redis://127.0.0.1:1/0?{CANARY}={CANARY}",
    f"redis://127.0.0.1:1/0?ssl_ca_certs_{CANARY}=1",
    f"redis+sentinel://:{CANARY}/x@127.0.0.1:1/main",
    f"redis+sentinel://{CANARY}:x/main",
    f"unix://{CANARY}@",
    CANARY,
)


def test_when_redis_is_away_or_refuses_or_its_url_is_wrong(place: Place, server: Embedded) -> None:
    (place.folder / "url").write_text(WRONG[0])
    place.flow("s", source=source("http://127.0.0.1:1/"))
    runs = [("status", {"REDIS_URL": url}) for url in WRONG]
    runs += [
        (command, {"REDIS_URL": url}) for url in away(server).values() for command in ("check --connect", "verify")
    ]
    runs += [("dead ls s", {}), ("status", {"REDIS_URL": "", "REDIS_URL_FILE": "url"})]
    assert "exit code 0" not in looked(place, runs)


@pytest.mark.parametrize("name", ["a wrong password", "nobody there"])
def test_when_a_service_runs_without_its_redis(place: Place, server: Embedded, name: str) -> None:
    environ = ENVIRON | {"REDIS_URL": away(server)[name]}
    place.flow("s", source=source("http://127.0.0.1:1/"))
    services = [place.produce("s", http=True, **environ), place.consume(**environ), place.start("run", **environ)]

    def has_noticed(service: Service) -> bool:
        return not service.running or "redis_unavailable" in service.said or "Redis refuses" in service.said

    for service in services:
        eventually(lambda service=service: has_noticed(service), 60)  # type: ignore[misc]
    if name == "nobody there":
        assert_clean(services[0].get("/readyz")[1], "/readyz")
    for service in services:
        service.terminate()
    assert_silent(*services)


@pytest.mark.parametrize("url", [WRONG[3], f"redis://{CANARY}:{CANARY}@127.0.0.1:1/0"], ids=["wrong", "away"])
def test_when_scrapy_crawl_can_not_publish(url: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    page = b"<div class=quote><span class=text>a</span><small class=author>b</small></div>"
    with ScriptedServer(answer("404 Not Found"), answer("200 OK", "Content-Type: text/html", page)) as site:
        options = ("MILLRACE_FLUSH_SECONDS=0.5", "AUTOTHROTTLE_ENABLED=0", "LOG_LEVEL=DEBUG")
        crawl = subprocess.run(
            [
                *(sys.executable, "-m", "scrapy", "crawl", "quotes", "-a", f"start_url={site.url}"),
                *(word for option in options for word in ("-s", option)),
            ],
            cwd=Path(__file__).parents[2] / "producer",
            env={**environ, "REDIS_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert_clean(crawl.stdout + crawl.stderr, "scrapy crawl")
    assert "REDIS" in crawl.stderr.upper()


MISTAKES: dict[str, dict[str, Any]] = {
    "value": {"max_failures": "${TOKEN}"},
    "url": {"url": "ftp://${TOKEN}/"},
    "port": {"url": "http://host:${TOKEN}/"},
    "header": {"headers": {"X-Api-Key": "${TOKEN}\n"}},
    "headers": {"headers": "${TOKEN}"},
    "option": {"tokken": "${TOKEN}"},
    "type": {"type": "${TOKEN}"},
}


def test_when_the_flows_file_is_wrong(place: Place) -> None:
    runs = []
    for name, mistake in MISTAKES.items():
        place.flow("s", source=source("http://127.0.0.1:1/") | mistake)
        (place.folder / "flows.yaml").rename(place.folder / f"{name}.yaml")
        runs.append((f"check --flows {name}.yaml", {}))
    said = looked(place, runs)
    assert said.count("exit code 2") == len(MISTAKES), said
