"""What the rest source knows goes to the flow's own host alone, and is told to nobody."""

from __future__ import annotations

import base64
import logging
import traceback
from typing import Any

import pytest
from structlog.testing import capture_logs

from millrace_pipeline.errors import SourceError, SourceRefused
from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.rest import RestSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.test_private_addresses import NAMES_OF_LOOPBACK

SECRET = "s3cret"
FAST: dict[str, Any] = {"max_failures": 2, "backoff_initial": 0.01, "backoff_max": 0.1}

AUTHS: dict[str, dict[str, str]] = {
    "bearer": {"type": "bearer", "token": SECRET},
    "basic": {"type": "basic", "username": "me", "password": SECRET},
    "header": {"type": "header", "name": "X-Api-Key", "value": SECRET},
    "query": {"type": "query", "name": "api_key", "value": SECRET},
}


def said(asked: Asked) -> str | None:
    """What a request says of who it is from."""
    query = asked.query.get("api_key")
    return asked.headers.get("authorization") or asked.headers.get("x-api-key") or query


def expected(name: str) -> str:
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    return {"bearer": f"Bearer {SECRET}", "basic": f"Basic {basic}"}.get(name, SECRET)


def next_link(url: str) -> Answer:
    return json_answer([1], Link=f'<{url}>; rel="next"')


@pytest.mark.parametrize("name", AUTHS)
def test_it_says_who_it_is_on_every_page(name: str) -> None:
    with ApiServer() as server:
        server.script.append(next_link("/things?page=2"))
        server.route = lambda asked: json_answer([2])
        source = RestSource(url=server.url + "/things", auth=AUTHS[name], pagination={"type": "link"}, **FAST)  # type: ignore[arg-type]
        assert len(list(source.read(None))) == 2
        assert [said(asked) for asked in server.asked] == [expected(name)] * 2


@pytest.mark.parametrize("name", AUTHS)
@pytest.mark.parametrize("way", ["redirect", "link"])
def test_it_does_not_say_so_to_another_host(name: str, way: str) -> None:
    with ApiServer(lambda asked: json_answer([2])) as other, ApiServer() as server:
        there = other.url + "/there"
        server.script.append(Answer(302, b"", {"Location": there}) if way == "redirect" else next_link(there))
        source = RestSource(
            url=server.url + "/things?own=1",
            auth=AUTHS[name],  # type: ignore[arg-type]
            headers={"X-Other": SECRET},
            pagination={"type": "link"},  # type: ignore[arg-type]
            allow_private=True,
            **FAST,
        )
        assert list(source.read(None))
        (asked,) = other.asked
        assert said(asked) is None
        assert "x-other" not in asked.headers
        assert asked.query == {}


@pytest.mark.parametrize("name", NAMES_OF_LOOPBACK)
@pytest.mark.parametrize("way", ["redirect", "link"])
def test_it_is_not_led_to_a_private_address(name: str, way: str) -> None:
    with ApiServer() as inside, ApiServer() as server:
        there = inside.url.replace("127.0.0.1", name) + f"/?token={SECRET}"
        server.script.append(Answer(302, b"", {"Location": there}) if way == "redirect" else next_link(there))
        source = RestSource(url=server.url, pagination={"type": "link"}, **FAST)  # type: ignore[arg-type]
        with pytest.raises(SourceRefused, match=r"private address.*allow_private") as refused:
            list(source.read(None))
        assert inside.asked == []
        assert SECRET not in str(refused.value)


def test_a_position_holds_nothing_that_the_flow_itself_says() -> None:
    with ApiServer() as server:

        def route(asked: Asked) -> Answer:
            if "page" in asked.query:
                return json_answer([3, 4])
            echoed = "&".join(f"{name}={value}" for name, value in asked.query.items())
            host = server.url.replace("//", f"//me:{SECRET}@")
            return json_answer([1, 2], Link=f'<{host}/things?page=2&{echoed}>; rel="next"')

        server.route = route
        source = RestSource(
            url=server.url + f"/things?token={SECRET}",
            params={"user": SECRET},
            auth=AUTHS["query"],  # type: ignore[arg-type]
            pagination={"type": "link"},  # type: ignore[arg-type]
            **FAST,
        )
        records = list(source.read(None))
        assert [record.data for record in records if not isinstance(record, Exception)] == [b"1", b"2", b"3", b"4"]  # type: ignore[union-attr]
        positions = encode_json([record.position for record in records]).decode()
        assert SECRET not in positions
        assert "page=2" in positions
        server.asked.clear()
        (last,) = source.read(records[2].position)
        assert last.data == b"4"  # type: ignore[union-attr]
        secrets = {"token": SECRET, "user": SECRET, "api_key": SECRET}
        assert [asked.query for asked in server.asked] == [{"page": "2", **secrets}]


ANSWERS = {
    "a refusal": Answer(403),
    "a failure": Answer(500),
    "a long wait": Answer(429, b"", {"Retry-After": "600"}),
    "a page": Answer(200, b"<html>"),
    "a redirect": Answer(302, b"", {"Location": f"/there?token={SECRET}"}),
    "a redirect with a password": Answer(302, b"", {"Location": f"http://u:{SECRET}@no-such-host.invalid/x?{SECRET}"}),
    "a redirect to nowhere": Answer(302, b"", {"Location": f"ftp://{SECRET}/"}),
    "a link with a password": json_answer([1], Link=f'<http://u:{SECRET}@no-such-host.invalid/>; rel="next"'),
    "a link to nowhere": json_answer([1], Link=f'<ftp://{SECRET}/>; rel="next"'),
    "a link that is its own": json_answer([1], Link=f'</?token={SECRET}>; rel="next"'),
    "nothing": Answer(200, b"[1, 2]", cut=0),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_secret_is_logged_raised_or_printed(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    raised: SourceError | None = None
    with ApiServer(lambda asked: ANSWERS[name]) as server, capture_logs() as logs:
        source = RestSource(
            url=server.url + f"/things?token={SECRET}",
            params={"user": SECRET},
            headers={"X-Mine": SECRET},
            auth=AUTHS["bearer"],  # type: ignore[arg-type]
            pagination={"type": "link"},  # type: ignore[arg-type]
            **FAST,
        )
        try:
            list(source.read(None))
        except SourceError as error:
            raised = error
        assert server.asked[0].query["token"] == server.asked[0].headers["x-mine"] == SECRET
    assert raised is not None
    assert (raised.__cause__, raised.__context__) == (None, None)
    told = "".join(traceback.format_exception(raised)) + repr(logs) + caplog.text + repr(source)
    printed = capfd.readouterr()
    assert SECRET not in told + printed.out + printed.err
    assert printed.out == ""
    assert server.url in told, "the place is named all the same"
