"""Where /metrics and its like answer: at the addresses that are meant and at no others."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.health import Health
from millrace_pipeline.process.listening import own_addresses, places_in
from tests.integration.ports import free_port

NOT_OURS = "192.0.2.1"  # of no machine: RFC 5737
OURS = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names stand for, as a network of containers has them: an alias that replicas share."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *arguments: object, **options: object) -> list[object]:
        if host not in known:
            return list(real(host, port, *arguments, **options))
        return [found for address in known[host] for found in real(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@contextlib.contextmanager
def serving(text: str) -> Iterator[Health]:
    health = Health(places_in(text), alive=lambda: None, ready=lambda: "not yet")
    health.start()
    try:
        yield health
    finally:
        health.close()


def ask(address: str, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def test_a_shared_name_is_listened_at_by_each_of_its_machines_at_its_own_address(names: dict[str, list[str]]) -> None:
    names["metrics"] = [NOT_OURS, OURS[0]]
    port = free_port()
    with serving(f"{port},metrics:{port}") as health:
        assert health.addresses == [f"127.0.0.1:{port}", f"{OURS[0]}:{port}"]
        for address in ("127.0.0.1", OURS[0]):
            assert ask(address, port, "/metrics") == 200
            assert ask(address, port, "/readyz") == 503
        with pytest.raises(ConnectionRefusedError):
            ask(OURS[1], port, "/metrics")  # another network of this machine


def test_who_says_nothing_in_one_network_keeps_nobody_waiting_in_another(names: dict[str, list[str]]) -> None:
    names["metrics"] = [OURS[0]]
    port = free_port()
    with serving(f"{port},metrics:{port}"), socket.create_connection((OURS[0], port)):
        assert ask("127.0.0.1", port, "/livez") == 200


def test_a_name_without_an_address_of_ours_is_warned_of(
    names: dict[str, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    names["metrics"] = [NOT_OURS]
    with serving("0,metrics:9090") as health:
        assert [address.partition(":")[0] for address in health.addresses] == ["127.0.0.1"]
    said = capfd.readouterr()
    assert "metrics stands for no address of this machine" in said.out + said.err


@pytest.mark.parametrize("text", ["metrics:9090", f"{NOT_OURS}:9090", f"0,{NOT_OURS}:9090"])
def test_nowhere_to_listen_at_is_an_error(text: str, names: dict[str, list[str]]) -> None:
    names["metrics"] = [NOT_OURS]
    with pytest.raises(ConfigError, match=r"MILLRACE_HTTP: .*(no address of this machine|can't listen on 192)"):
        serving(text).__enter__()


def test_a_name_that_comes_late_is_waited_for(names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[], [], [OURS[0]]])
    monkeypatch.setattr("millrace_pipeline.process.health.own_addresses", lambda _: next(answers))
    with serving("metrics:0") as health:
        assert health.addresses[0].startswith(OURS[0])


def test_a_name_of_no_machine_has_no_address() -> None:
    assert own_addresses("no-such-host.invalid") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "localhost"])
def test_the_probe_asks_where_the_service_listens(host: str) -> None:
    port = free_port()
    with serving(f"{host}:{port}"):
        for path, code in (("/livez", 0), ("/readyz", 1)):
            done = subprocess.run(
                [sys.executable, "-m", "millrace_pipeline.process.probe", path],
                env={**os.environ, "MILLRACE_HTTP": f"{host}:{port}"},
                capture_output=True,
                text=True,
            )
            assert (done.returncode, done.stdout) == (code, "ok\n" if code == 0 else "not yet\n")


def test_a_probe_that_gets_no_answer_says_where_it_asked() -> None:
    port = free_port()
    done = subprocess.run(
        [sys.executable, "-m", "millrace_pipeline.process.probe"],
        env={**os.environ, "MILLRACE_HTTP": str(port)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"no answer at 127.0.0.1, port {port}" in done.stdout
