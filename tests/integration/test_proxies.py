"""Whatever speaks HTTP goes by the proxy that its flow names, and by those of the environment only where it says so."""

from __future__ import annotations

import contextlib
import pkgutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from millrace_consumer.sinks import SINKS
from millrace_producer.sources import SOURCES
from tests.integration.ports import free_port

KEYS = {"access_key": "k", "secret_key": "s", "region": "eu-west-1"}
STORE = {"region": "eu-west-1", "access_key_id": "k", "secret_access_key": "s", "allow_http": True, "timeout": 5}
FAST: dict[str, Any] = {"max_failures": 1, "backoff_initial": 0.01, "connect_timeout": 5}


class Trap:
    """A proxy that hangs up on everybody, and counts them."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.callers = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                self.callers += 1
                caller.recv(1 << 16)
                caller.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                caller.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trap]:
    """The proxy that the environment names."""
    found = Trap()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, found.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.close()


def options(kind: str) -> dict[str, Any]:
    """Options of a component, at an address where nobody is."""
    nobody = f"127.0.0.1:{free_port()}"
    stored = {"store": {**STORE, "endpoint": f"http://{nobody}"}}
    return {
        "rest": {"url": f"http://{nobody}/", **FAST},
        "sse": {"url": f"http://{nobody}/", **FAST},
        "websocket": {"url": f"ws://{nobody}/", **FAST},
        "files": {"path": "s3://bucket/*.jsonl", **stored},
        "http": {"url": f"http://{nobody}/", "timeout": 5},
        "sqs": {"url": f"http://{nobody}/1/q", "timeout": 5, **KEYS},
        "jsonl": {"path": "s3://bucket/j", **stored},
        "csv": {"path": "s3://bucket/c", "columns": ["n"], **stored},
        "parquet": {"path": "s3://bucket/p", **stored},
        "delta": {"path": "s3://bucket/d", **stored},
    }[kind]


def members() -> Iterator[tuple[type[Any], str]]:
    for table in (SOURCES, SINKS):
        for name in table:
            kind = pkgutil.resolve_name(table[name])
            if {"proxy", "store"} & set(kind.model_fields):
                yield kind, name


MEMBERS = [pytest.param(kind, name, id=kind.__name__) for kind, name in members()]


def probe(kind: type[Any], name: str, proxy: str | None) -> None:
    said = options(name)
    if proxy is not None:
        said.get("store", said)["proxy"] = proxy
    made = kind.model_validate(said)
    with contextlib.suppress(Exception):  # that it can't be reached is sure
        made.probe()


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_a_proxy_of_the_environment_is_not_gone_by(kind: type[Any], name: str, trap: Trap) -> None:
    probe(kind, name, None)
    assert trap.callers == 0


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_a_proxy_of_the_environment_is_gone_by_where_that_is_said(kind: type[Any], name: str, trap: Trap) -> None:
    probe(kind, name, "environment")
    assert trap.callers > 0


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_the_proxy_that_a_flow_names_is_gone_by(kind: type[Any], name: str, trap: Trap) -> None:
    named = Trap()
    try:
        probe(kind, name, named.url)
        assert (named.callers > 0, trap.callers) == (True, 0)
    finally:
        named.close()


@pytest.mark.parametrize(("kind", "name"), MEMBERS)
def test_what_is_no_proxy_is_refused(kind: type[Any], name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="expected the URL of a proxy"):
        probe(kind, name, str(tmp_path))
