"""The stack's way into its PostgreSQL: a password made once, of which the server gets a verifier only."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.postgres_server import PostgresServer

FLOW = "{source: {type: sse, url: 'http://127.0.0.1:1/'}, queue: {key: %s}, sink: {type: stdout}}"


def grant(folder: Path) -> str:
    """Runs it as the stack does, on two flows files; returns the password of the consumers."""
    for name in ("redis", "producer", "consumer", "postgres"):
        (folder / "access" / name).mkdir(parents=True, exist_ok=True)
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(f"flows: {{{name}: {FLOW % name}}}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "millrace.access", str(folder / "access"), "one.yaml", "two.yaml"],
        cwd=folder,
        env={**environ, "REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    passfile = folder / "access" / "consumer" / "pgpass"
    assert stat.S_IMODE(passfile.stat().st_mode) == 0o400
    password = passfile.read_text().strip().removeprefix("*:*:*:consumer:")
    assert len(password) == 64
    assert password not in done.stderr
    return password


def test_the_consumer_gets_in_with_its_password_and_its_passfile_and_nobody_else_does(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    password = grant(tmp_path)
    access = tmp_path / "access"
    for _ in range(2):  # as at each `up`
        postgres.psql("--quiet", f"--file={access / 'postgres' / 'roles.sql'}")
        assert grant(tmp_path) == password
    for file in ("roles.sql", "superuser"):
        text = (access / "postgres" / file).read_text()
        assert "SCRAM-SHA-256$4096:" in text
        assert password not in text

    address = f"postgresql://consumer@127.0.0.1:{postgres.port}/quotes"
    with psycopg.connect(f"{address}?passfile={access / 'consumer' / 'pgpass'}") as connection:
        connection.execute("CREATE TABLE mine (text text)")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(address, password="x" * 64)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(address.replace("consumer@", "reader@"), password="reader")


def test_the_lists_of_all_flows_files_are_let_at(tmp_path: Path) -> None:
    grant(tmp_path)
    users = (tmp_path / "access" / "redis" / "users.acl").read_text()
    assert "~one " in users
    assert "~two " in users
