"""What the pages on steering and alerts show is what the commands print, numbers, times and names aside."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue import DeadLetters
from tests.conftest import eventually
from tests.integration.ports import refusing
from tests.integration.test_alerts import Hook, die
from tests.services import Place

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"

BATCH = r"\d{8}T\d{6}Z-[0-9a-f]{10}-\d{6}"
PARTICULARS = (
    (BATCH, "BATCH"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?", "TIME"),
    (r"\d{13}-\d+", "LETTER"),
    (r"[\w.-]+@[\w.-]+ \(Redis user \w+\)", "WHO"),
    (r"\b[a-zA-Z_][\w.-]*:\d+\b|127\.0\.0\.1:\d+", "PROCESS"),
    (r"position +(none|\S.*)|becomes +\S.*|it was .*", "POSITION"),
    (r"after the event whose id is .*, of TIME UTC", "PLACE"),
    (r"\d[\d,.]*( ms| s| min)?", "N"),
    (r"[ ─]+", " "),
)
"""What differs from one run to the next."""

THEIRS = """
import threading

def numbers():
    yield from ()

def wait(batch):
    threading.Event().wait()
"""


def shape(line: str) -> str:
    for pattern, name in PARTICULARS:
        line = re.sub(pattern, name, line)
    return line.strip()


def shown(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each command on a page, and the lines that it is shown to print."""
    for block in re.findall(r"^```(?:console)?\n(\$ .*?)^```", (HOW_TO / page).read_text(), re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            yield command, lines


def run(place: Place, command: str, said: str = "") -> set[str]:
    """The shapes of the lines that a command prints; `said` is what a person types."""
    ours, theirs = pty.openpty()
    os.write(ours, said.encode())
    asked = place.start(*shlex.split(command)[1:], stdin=theirs)
    asked.wait()
    os.close(theirs)
    os.close(ours)
    text = (asked.printed + asked.said).replace("[y/N]: ", f"[y/N]: {said}")
    return {shape(line) for line in text.splitlines()}


def assert_shown(command: str, lines: list[str], printed: set[str]) -> None:
    missing = [line for line in lines if shape(line) not in printed]
    assert not missing, f"$ {command}\nshows {missing}\nprints {sorted(printed)}"


def test_what_the_page_on_steering_shows_is_what_is_printed(place: Place) -> None:
    place.module(THEIRS)
    place.flow("wikipedia", source={"type": "sse", "url": "http://127.0.0.1:9/v2/stream/recentchange"})
    place.flow("numbers", source={"type": "python", "function": "theirs:numbers", "counted": True}, dedupe=None)
    wait = {"type": "python", "function": "theirs:wait"}
    place.flow("orders", sink=wait, lease="60s", batch={"records": 5})
    for name, count in (("wikipedia", 9), ("numbers", 3), ("orders", 40)):
        place.publish(range(count), name)
    at = json.dumps([{"topic": "eqiad", "partition": 0, "offset": 5600026898, "timestamp": 1795964623580}])
    with place.queue("wikipedia") as queue:
        queue.publish([], dead=[DeadLetter(b"{", "no JSON")], checkpoint=("wikipedia", at))
    with place.queue("numbers") as queue:
        queue.publish([], dead=[DeadLetter(b"{", "no JSON")], checkpoint=("numbers", 513))
    place.consume("orders")
    eventually(lambda: len(place.books("orders").leases) >= 3, 60)
    commands = list(shown("steer.md"))
    assert len(commands) >= 10
    for command, lines in commands:
        if "audit" in command:
            with place.queue("orders") as queue:
                letter = next(iter(DeadLetters(queue).newest()))
            run(place, f"millrace dead replay orders {letter.id} --yes")
            run(place, "millrace pause orders --consumers --note 'the lake is moved'")
            run(place, "millrace resume orders")
        batch = min(lease.batch for lease in place.books("orders").leases if lease.attempts)
        printed = run(place, re.sub(BATCH, batch, command), "y\n" if "y/N" in "".join(lines) else "")
        assert_shown(command, lines, printed)


@pytest.mark.timeout(240)
def test_what_the_page_on_alerts_shows_is_what_is_told(place: Place) -> None:
    with refusing() as port:
        alerts = [
            {"age": ">2m for 5m"},
            {"dead": ">0"},
            {"silent": "10m"},
            {"null_share": {"field": "/title", "above": "20%"}},
            {"held_back": "5m"},
            {"outage": "1m"},
        ]
        place.flow("orders", alerts=alerts, notify={"webhook": f"http://127.0.0.1:{port}/"})
        place.publish(range(40), "orders")
        place.consume("orders")
        with place.queue("orders") as queue:
            queue.publish([], dead=[DeadLetter(b"x", "no JSON")])

        def raised() -> bool:
            place.publish(range(20), "orders")  # which have no title: they are looked at a few at a time
            return len(re.findall("raised", told(place, "millrace alerts orders"))) == 2

        eventually(raised, 120)
        for command, lines in shown("alerts.md"):
            assert_shown(command, lines, run(place, command))


def told(place: Place, command: str) -> str:
    return "\n".join(run(place, command))


def test_the_notice_on_the_page_on_alerts_is_one_that_is_sent(place: Place) -> None:
    hook = Hook()
    place.flow(alerts=[{"dead": ">1"}], notify={"webhook": hook.url})
    die(place, "a", "b")
    place.consume()
    eventually(lambda: hook.told, 60)
    (on_the_page,) = re.findall(r"```json\n(\{.*?\})\n```", (HOW_TO / "alerts.md").read_text(), re.DOTALL)
    expected, sent = json.loads(on_the_page), hook.told[0]
    hook.server.shutdown()
    hook.server.server_close()
    assert list(sent) == list(expected), sent
    names = ("flow", "alert", "rule", "state", "unit", "threshold", "value")
    assert {name: sent[name] for name in names} == {name: expected[name] for name in names}
    assert shape(sent["text"]) == shape(expected["text"])
