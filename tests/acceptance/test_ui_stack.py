"""The page in the stack: for this machine alone, as a user who looks, and for who has the token as one who steers.

One run on the bundled sites gives the evidence; each test is one claim about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from tests.acceptance.stackrun import StackRun, until
from tests.pages import text_of

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

REACH = """
import socket, sys
for name, port in (word.rsplit(":", 1) for word in sys.argv[1:]):
    try:
        socket.create_connection((name, int(port)), 5).close()
        print("open")
    except OSError:
        print("closed")
"""


OVERRIDE = "services: {consumer: {environment: {BATCH: '100', LINGER: 1s}}}\n"


@dataclass
class Evidence:
    """What a run showed."""

    published_at: str = ""
    first: str = ""
    refused: int = 0
    paused: str = ""
    books: dict[str, dict[str, object]] = field(default_factory=dict)
    from_queue: str = ""
    outwards: str = ""
    token: str = field(default="", repr=False)
    said: str = field(default="", repr=False)


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    with StackRun.built(tmp_path_factory.mktemp("stack"), OVERRIDE) as run:
        yield look(run)


def look(run: StackRun) -> Evidence:
    """Up; looked at by its published port; signed in by the token of `access`; paused and resumed."""
    evidence = Evidence()
    run.stack.up()
    until("quotes delivered", lambda: run.books()["quotes"]["delivered"] == 100)
    evidence.published_at = run.compose("port", "ui", "8484").strip()
    address = f"http://{evidence.published_at}"
    http = requests.Session()
    http.trust_env = False
    evidence.first = text_of(http.get(f"{address}/", timeout=30).text)
    evidence.refused = http.get(f"{address}/", headers={"Host": "evil.example"}, timeout=30).status_code
    evidence.token = run.execute("ui", "cat", "/access/token").strip()
    page = http.post(f"{address}/sign-in", data={"token": evidence.token}, timeout=30).text
    word = re.search(r'name="word" value="(\w+)"', page)
    assert word is not None, page
    fields = {"word": word[1], "part": "consumers", "note": "a test"}
    evidence.paused = text_of(http.post(f"{address}/flows/quotes/steer/pause", data=fields, timeout=30).text)
    evidence.books = json.loads(run.execute("consumer", "millrace", "status", "--json"))
    evidence.from_queue = run.execute("consumer", "python", "-c", REACH, "ui:8484", "redis:6379")
    evidence.outwards = run.execute("ui", "python", "-c", REACH, "1.1.1.1:443", "redis:6379")
    evidence.said = run.compose("logs", "--no-color")
    return evidence


def test_it_is_published_to_this_machine_alone_and_to_no_other_host_name(evidence: Evidence) -> None:
    assert evidence.published_at.startswith("127.0.0.1:")
    assert evidence.refused == 421


def test_it_shows_the_flows_without_a_password(evidence: Evidence) -> None:
    assert "Flows 2" in evidence.first
    assert "Sign in" in evidence.first


def test_the_token_that_access_made_signs_in_and_the_operator_pauses(evidence: Evidence) -> None:
    assert "consumers are paused" in evidence.paused
    assert "(Redis user operator) by the page: a test" in evidence.paused
    assert list(evidence.books["quotes"]["paused"]) == ["consumers"]  # type: ignore[call-overload]


def test_no_log_holds_the_token(evidence: Evidence) -> None:
    assert len(evidence.token) == 64
    assert evidence.token not in evidence.said


def test_it_listens_in_no_network_of_the_queue_and_reaches_nothing_outside(evidence: Evidence) -> None:
    assert evidence.from_queue.split() == ["closed", "open"]
    assert evidence.outwards.split() == ["closed", "open"]
