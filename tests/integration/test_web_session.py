"""All that speaks HTTP says what its flow says and nothing that it finds elsewhere; URLs go out as they are written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from millrace_consumer.sinks.http import HttpSink
from millrace_consumer.sinks.sqs import SqsSink
from millrace_pipeline.alerting.notice import Notice
from millrace_pipeline.alerting.targets import NotTold, targets_of
from millrace_pipeline.errors import SinkUnavailable, SourceUnavailable
from millrace_pipeline.flows.alerts import NotifyOptions
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sqs import SqsSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.contracts.sink_records import batch_of
from tests.integration.sse_server import OK, ScriptedServer, answer
from tests.integration.test_tls import Authority, Terminator

ONCE: dict[str, Any] = {"max_failures": 1, "backoff_initial": 0.01, "connect_timeout": 5}
PAGE = answer("200 OK", "Content-Type: application/json\nSet-Cookie: seen=1; Path=/", b"[1]")
EVENTS = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: seen=1; Path=/\r\n\r\n") + b"data: 1\n\n"
NO_WEBSOCKET = answer("503 Busy", "Set-Cookie: seen=1; Path=/")


def rest(url: str, **options: Any) -> None:
    assert [record.data for record in RestSource(url=url, **ONCE, **options).read(None)] == [b"1"]  # type: ignore[union-attr]


def sse(url: str, **options: Any) -> None:
    source = SseSource(url=url, **{**ONCE, "max_failures": 2}, **options)
    assert next(source.read(None)).data == b"1"  # type: ignore[union-attr]


def websocket(url: str, **options: Any) -> None:
    with contextlib.suppress(SourceUnavailable):  # the handshake is all that is looked at
        next(WebsocketSource(url=url.replace("http", "ws", 1), **ONCE, **options).read(None))


def http_sink(url: str, **options: Any) -> None:
    HttpSink(url=url, connect_timeout=5, timeout=5, **options).write(batch_of("one", [{"n": 1}]))


NOW = "2026-11-29T00:00:00Z"
NOTICE = Notice(id="1", state="raised", text="f waits", flow="f", alert="age", rule="age >2m", since=NOW, at=NOW)


def webhook(url: str, **options: Any) -> None:
    targets_of(NotifyOptions(webhook=SecretStr(url), **options))["webhook"](NOTICE)


Ask = Callable[..., None]
SAID: dict[Ask, bytes] = {
    rest: PAGE,
    sse: EVENTS,
    websocket: NO_WEBSOCKET,
    http_sink: answer("200 OK"),
    webhook: answer("200 OK", "Set-Cookie: seen=1; Path=/"),
}
MEMBERS = list(SAID)
ASKED_TO = [ask for ask in MEMBERS if ask is not webhook]
"""Those whose flow says what they say beside their URL."""
SOURCES = [rest, sse, websocket]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home with passwords, and variables that name a proxy and certificates which aren't there."""
    (tmp_path / ".netrc").write_text("default login me password s3cret\nmachine 127.0.0.1 login me password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "nothing.pem"))


@pytest.mark.parametrize("ask", MEMBERS)
def test_nothing_is_said_that_only_the_surroundings_say(ask: Ask) -> None:
    with ScriptedServer(SAID[ask]) as server:
        ask(server.url)
        assert "authorization" not in server.asked[0].headers
        assert server.asked[0].headers["host"] == server.url.split("/")[2], "no proxy stands between"


@pytest.mark.parametrize("ask", ASKED_TO)
def test_what_the_flow_says_is_not_replaced(ask: Ask) -> None:
    options = [{"headers": {"authorization": "Bearer mine"}}]
    options += [{"auth": {"type": "bearer", "token": "mine"}}]
    for option in options:
        with ScriptedServer(SAID[ask]) as server:
            ask(server.url, **option)
            assert server.asked[0].headers["authorization"] == "Bearer mine"


@pytest.mark.parametrize("ask", [rest, sse])
@pytest.mark.parametrize("option", ["auth", "headers"])
def test_a_redirect_to_another_host_carries_no_secret_and_no_password_of_ours(ask: Ask, option: str) -> None:
    options = {"auth": {"auth": {"type": "bearer", "token": "mine"}}, "headers": {"headers": {"X-Mine": "mine"}}}
    with ScriptedServer(SAID[ask]) as other:
        away = answer("302 Found", f"Location: {other.url}\nSet-Cookie: seen=1; Path=/")
        with ScriptedServer(away) as server:
            ask(server.url, allow_private=True, **options[option])
        assert not {"authorization", "x-mine", "cookie"} & other.asked[0].headers.keys()


def test_nor_does_the_link_to_a_next_page() -> None:
    with ScriptedServer(answer("200 OK", "", b"[2]")) as other:
        first = answer("200 OK", f"Link: <{other.url}?api_key=x>; rel=next\nSet-Cookie: seen=1; Path=/", b"[1]")
        for auth in ({"type": "bearer", "token": "mine"}, {"type": "query", "name": "api_key", "value": "mine"}):
            with ScriptedServer(first) as server:
                other.script.append(answer("200 OK", "", b"[2]"))
                source = RestSource(
                    url=server.url,
                    auth=auth,  # type: ignore[arg-type]
                    allow_private=True,
                    pagination={"type": "link"},  # type: ignore[arg-type]
                    **ONCE,
                )
                assert len(list(source.read(None))) == 2
        assert all("authorization" not in asked.headers and "cookie" not in asked.headers for asked in other.asked)
        assert not any("mine" in asked.line for asked in other.asked)


@pytest.mark.parametrize("ask", MEMBERS)
def test_a_cookie_is_not_kept(ask: Ask) -> None:
    again = answer("302 Found", "Location: /events\nSet-Cookie: seen=1; Path=/")
    posts = ask in (http_sink, webhook)
    script = [SAID[ask], SAID[ask]] if posts else [again, SAID[ask]]
    with ScriptedServer(*script) as server:
        ask(server.url)
        if posts:
            ask(server.url)
        assert len(server.asked) == 2
        assert all("cookie" not in asked.headers for asked in server.asked)


@pytest.mark.parametrize("ask", MEMBERS)
@pytest.mark.parametrize("named", ["by itself", "environment"])
def test_a_proxy_is_asked_where_the_flow_wants_one(ask: Ask, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = NO_WEBSOCKET if ask is websocket else SAID[ask]
    with ScriptedServer(said) as proxy:
        where = proxy.url.removesuffix("/events")
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, where if named == "environment" else "http://127.0.0.1:9")
        ask("http://outside.example/events", proxy=where if named == "by itself" else named)
        way = "CONNECT outside.example:80" if ask is websocket else "http://outside.example/events"
        assert way in proxy.asked[0].line


@pytest.mark.parametrize("ask", MEMBERS)
def test_a_server_is_trusted_by_the_certificates_that_the_flow_names(ask: Ask, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    with ScriptedServer(SAID[ask], SAID[ask]) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with contextlib.closing(Terminator(port, authority.certify("server"))) as tls:
            url = f"https://127.0.0.1:{tls.port}/events"
            with contextlib.suppress(SourceUnavailable, SinkUnavailable, NotTold):
                ask(url)
            assert server.asked == [], "nobody else vouches for it"
            ask(url, ca_file=authority.file)
            assert len(server.asked) == 1


@pytest.mark.parametrize("kind", [SqsSink, SqsSource])
def test_a_queue_of_sqs_is_trusted_by_the_certificates_that_the_flow_names(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "ours")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
    with ScriptedServer(PAGE, PAGE) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with contextlib.closing(Terminator(port, authority.certify("server"))) as tls:
            as_whom = {"region": "eu-west-1", "access_key": "a", "secret_key": "b"}
            for trusted in ({}, {"ca_file": authority.file}):
                with contextlib.suppress(Exception):  # the answer is none of SQS
                    kind(url=f"https://127.0.0.1:{tls.port}/1/q", **as_whom, **trusted).probe()
                assert bool(server.asked) is bool(trusted)


AS_WRITTEN = "/a%2fb/%7Eme;v=1/é?a=1&a=2&name=%E9&low=%e9&flag&;x&b=c+d%20e&f[]=1&plus=%2B&z="
SENT = AS_WRITTEN.replace("é", "%C3%A9")


@pytest.mark.parametrize("ask", MEMBERS)
def test_a_url_goes_out_as_it_is_written(ask: Ask) -> None:
    with ScriptedServer(SAID[ask]) as server:
        ask(server.url.removesuffix("/events") + (SENT if ask is websocket else AS_WRITTEN))
        assert server.asked[0].line.split()[1] == SENT


def test_so_it_does_through_a_proxy() -> None:
    with ScriptedServer(PAGE) as proxy:
        rest("http://outside.example" + AS_WRITTEN, proxy=proxy.url.removesuffix("/events"))
        assert proxy.asked[0].line.split()[1] == "http://outside.example" + SENT


@pytest.mark.parametrize("kind", [RestSource, SseSource, WebsocketSource, HttpSink])
def test_options_that_can_not_work_are_refused_without_showing_a_secret(kind: Any) -> None:
    url = "ws://host/" if kind is WebsocketSource else "http://host/"
    for option, value in {"proxy": "ftp://me:s3cret@host/", "ca_file": "/nowhere/ca.pem"}.items():
        with pytest.raises(ValidationError) as refused:
            kind(url=url, **{option: value})
        assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(kind(url=url, proxy="http://me:s3cret@host:1"))
