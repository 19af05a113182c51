"""`docker compose --profile postgres up`: quotes into a real PostgreSQL, whose passwords nobody sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.acceptance.stackrun import CommandFailed, StackRun, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

QUOTES = 100
SERVICES = ["site", "postgres", "producer-postgres", "consumer-postgres"]

ASK = """
import psycopg, sys
for dsn in sys.argv[1:]:
    try:
        print(psycopg.connect(dsn, connect_timeout=10).execute("SELECT current_user").fetchone()[0])
    except psycopg.OperationalError as error:
        print("refused" if "authentication failed" in str(error) or "no password" in str(error) else error)
"""


OVERRIDE = "services: {consumer-postgres: {environment: {LINGER: 200ms, LEASE: 5s}}}\n"


@dataclass
class Evidence:
    """What a run showed."""

    rows: int = 0
    again: int = 0
    ledger: int = 0
    verified: str = ""
    verified_while_killed: int = 0
    password: str = field(default="", repr=False)
    logins: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict, repr=False)
    kept: int = 0


@pytest.fixture(scope="module")
def evidence(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """The whole run. Its containers, networks and volumes are gone afterwards, however it ends."""
    with StackRun.built(tmp_path_factory.mktemp("stack"), OVERRIDE, COMPOSE_PROFILES="postgres") as run:
        yield look(run)


def look(run: StackRun) -> Evidence:
    """Up; delivered; crawled again with the consumer killed; looked at from all sides; down and up again."""
    evidence = Evidence()
    run.stack.up(SERVICES)
    until("all quotes in the table", lambda: rows(run) == QUOTES)
    evidence.rows = rows(run)

    run.compose("restart", "producer-postgres")
    until("some of the second crawl", lambda: ledger(run) > QUOTES)
    run.compose("kill", "--signal", "KILL", "consumer-postgres")
    run.stack.up(["consumer-postgres"])
    until("all of the second crawl", lambda: ledger(run) == 2 * QUOTES and books(run)["in_flight"] == 0)
    evidence.again, evidence.ledger = rows(run), ledger(run)
    evidence.verified = run.execute("consumer-postgres", "millrace", "verify", "--sink")

    evidence.password = run.execute("consumer-postgres", "cat", "/access/pgpass").strip().rpartition(":")[2]
    evidence.logins = run.execute(
        "consumer-postgres",
        *("python", "-c", ASK),
        "postgresql://consumer@postgres/quotes?passfile=/access/pgpass",
        "postgresql://consumer@postgres/quotes?passfile=/dev/null",
        "postgresql://postgres:postgres@postgres/quotes",
        "postgresql://reader:reader@postgres/quotes",
    ).splitlines()
    for service in ("postgres", "consumer-postgres", "producer-postgres"):
        name = next(one.name for one in run.stack.ps() if one.service == service)
        evidence.seen[f"docker inspect {name}"] = json.dumps(run.inspect(name))
    evidence.seen["docker compose config"] = run.compose("config")
    evidence.seen["docker compose logs"] = run.compose("logs", "--no-color")
    evidence.files["postgres"] = run.execute("postgres", "sh", "-c", "cat /access/*")
    evidence.files["what postgres may write"] = said(run, "touch", "/usr/written")
    evidence.files["what reader may write"] = said(run, "psql", "-U", "reader", "quotes", "-c", "DELETE FROM quotes")
    evidence.files["status"] = run.execute("postgres", "cat", "/proc/1/status")

    run.stack.down()
    run.stack.up(SERVICES)
    evidence.kept = until("the table is back", lambda: rows(run))
    return evidence


def select(run: StackRun, what: str) -> int:
    said = run.execute(
        "postgres", "psql", "-U", "reader", "quotes", "--tuples-only", "--no-align", "-c", f"SELECT {what}"
    )
    return int(said.strip() or 0)


def rows(run: StackRun) -> int:
    return select(run, "count(*) FROM quotes")


def ledger(run: StackRun) -> int:
    return select(run, "sum(records) FROM millrace_ledger")


def books(run: StackRun) -> dict[str, int]:
    found: dict[str, dict[str, int]] = json.loads(run.execute("consumer-postgres", "millrace", "verify", "--json"))
    return found["quotes-postgres"]


def said(run: StackRun, *words: str) -> str:
    try:
        return run.execute("postgres", *words)
    except CommandFailed as error:
        return str(error)


def test_every_quote_is_a_row_once_though_it_was_crawled_twice_and_the_consumer_killed(evidence: Evidence) -> None:
    assert (evidence.rows, evidence.again, evidence.ledger) == (QUOTES, QUOTES, 2 * QUOTES)
    assert "200 records of 200 delivered: each once (by its batch in the ledger)" in evidence.verified


def test_only_the_consumer_comes_in_and_only_with_its_password(evidence: Evidence) -> None:
    assert evidence.logins == ["consumer", "refused", "refused", "refused"]


def test_the_password_is_nowhere_to_be_seen(evidence: Evidence) -> None:
    assert len(evidence.password) == 64
    for where, text in evidence.seen.items():
        assert text, where
        assert evidence.password not in text, where
    assert "SCRAM-SHA-256$" in evidence.files["postgres"]
    assert evidence.password not in evidence.files["postgres"]


def test_postgres_has_no_root_no_capabilities_no_port_and_no_writable_system(evidence: Evidence) -> None:
    status = dict(line.split(":\t", 1) for line in evidence.files["status"].splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {0}
    assert "Read-only file system" in evidence.files["what postgres may write"]
    inspected = json.loads(next(text for where, text in evidence.seen.items() if "postgres-1" in where))
    assert not inspected["HostConfig"]["PortBindings"]


def test_who_looks_can_not_change_anything(evidence: Evidence) -> None:
    assert "permission denied for table quotes" in evidence.files["what reader may write"]


def test_the_table_outlives_down_and_up(evidence: Evidence) -> None:
    assert evidence.kept == QUOTES
