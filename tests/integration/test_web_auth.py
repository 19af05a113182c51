"""Tokens that are asked for, and requests that are signed, by every source that has an `auth`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from millrace_pipeline.errors import SourceRefused, SourceUnavailable
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.socket_server import SocketServer

SECRET = "s3cret"
FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1}
EVENT = Answer(200, b"data: 1\n\n", {"Content-Type": "text/event-stream"})


class Place:
    """Something to ask, and what it was told by whom."""

    def __init__(self, source: Callable[..., Any], asked: list[Any], refuse: Callable[[], object]) -> None:
        self.source = source
        self.asked = asked
        self.refuse = refuse


@pytest.fixture(params=["rest", "sse", "websocket"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with contextlib.ExitStack() as held:
        if request.param == "websocket":
            sockets = held.enter_context(SocketServer(lambda client: client.send("1")))
            url = sockets.url + "/x?a=%E9"
            yield Place(
                lambda auth: WebsocketSource(url=url, auth=auth, **FAST),
                sockets.asked,
                lambda: sockets.refuse.append((401, {})),
            )
            return
        answer = json_answer([1]) if request.param == "rest" else EVENT
        server = held.enter_context(ApiServer(lambda asked: answer))
        kind = RestSource if request.param == "rest" else SseSource
        yield Place(
            lambda auth: kind(url=server.url + "/x?a=%E9", auth=auth, **FAST),
            server.asked,
            lambda: server.script.append(Answer(401)),
        )


class Tokens:
    """Gives tokens, a new one each time."""

    def __init__(self, **more: Any) -> None:
        self.given = 0
        self.more = {"expires_in": 3600} | more
        self.questions: list[dict[str, list[str]]] = []

    def __call__(self, asked: Asked) -> Answer:
        self.given += 1
        self.questions.append(parse_qs(asked.body.decode()))
        assert asked.method == "POST"
        return json_answer({"access_token": f"token-{self.given}", "token_type": "bearer", **self.more})


def oauth(server: ApiServer, **options: Any) -> dict[str, Any]:
    return {
        "type": "oauth2",
        "token_url": server.url + "/token",
        "client_id": "me",
        "client_secret": SECRET,
        **options,
    }


def first(source: Any) -> Any:
    reading = source.read(None)
    record = next(reading)
    reading.close()
    return record


def said(place: Place) -> list[str | None]:
    return [asked.headers.get("authorization") for asked in place.asked]


def test_a_token_is_asked_for_by_the_clients_own_credentials(place: Place) -> None:
    with ApiServer(tokens := Tokens()) as server:
        first(place.source(oauth(server, scope="read all", parameters={"audience": "x"})))
        assert said(place) == ["Bearer token-1"]
        expected = base64.b64encode(f"me:{SECRET}".encode()).decode()
        assert server.asked[0].headers["authorization"] == f"Basic {expected}"
    assert tokens.questions == [{"grant_type": ["client_credentials"], "scope": ["read all"], "audience": ["x"]}]


def test_or_by_a_refresh_token_and_the_client_in_the_body(place: Place) -> None:
    with ApiServer(tokens := Tokens(refresh_token="other")) as server:
        first(place.source(oauth(server, refresh_token="old", client_in="body")))
        assert "authorization" not in server.asked[0].headers
    given = {"refresh_token": ["old"], "client_id": ["me"], "client_secret": [SECRET]}
    assert tokens.questions == [{"grant_type": ["refresh_token"], **given}]


def test_a_token_that_was_revoked_is_replaced_once(place: Place) -> None:
    with ApiServer(Tokens()) as server:
        reading = place.source(oauth(server)).read(None)
        next(reading)
        reading.close()
    with ApiServer(Tokens()) as server:
        place.asked.clear()
        place.refuse()
        with pytest.raises(SourceRefused, match="401"):
            first(place.source(oauth(server)))
        assert said(place) == ["Bearer token-1"], "a new token that is refused is no matter of its age"


def test_a_token_is_kept_until_it_is_about_to_expire_or_is_refused() -> None:
    with ApiServer(tokens := Tokens()) as server, ApiServer(lambda asked: json_answer([1])) as api:
        reading = RestSource(url=api.url, auth=oauth(server), every=0.02, **FAST).read(None)  # type: ignore[arg-type]
        assert len(list(islice(reading, 3))) == 3
        assert tokens.given == 1
        api.script.append(Answer(401))
        assert len(list(islice(reading, 2))) == 2
        assert tokens.given == 2
        assert api.asked[-1].headers["authorization"] == "Bearer token-2"
        reading.close()  # type: ignore[attr-defined]  # a generator
    with ApiServer(tokens := Tokens(expires_in=0)) as server, ApiServer(lambda asked: json_answer([1])) as api:
        reading = RestSource(url=api.url, auth=oauth(server), every=0.02, **FAST).read(None)  # type: ignore[arg-type]
        assert len(list(islice(reading, 3))) == 3
        assert tokens.given == 3
        reading.close()  # type: ignore[attr-defined]  # a generator


def test_a_refresh_token_that_is_replaced_is_used_from_then_on() -> None:
    with ApiServer(tokens := Tokens(refresh_token="newer", expires_in=0)) as server:
        with ApiServer(lambda asked: json_answer([1])) as api:
            auth = oauth(server, refresh_token="old")
            reading = RestSource(url=api.url, auth=auth, every=0.02, **FAST).read(None)  # type: ignore[arg-type]
            assert len(list(islice(reading, 2))) == 2
            reading.close()  # type: ignore[attr-defined]  # a generator
        assert [question["refresh_token"] for question in tokens.questions] == [["old"], ["newer"]]


def test_where_no_token_is_given_that_is_told_without_a_secret(place: Place) -> None:
    refused = Answer(401, json.dumps({"error": "invalid_client", "error_description": SECRET}).encode())
    with ApiServer(lambda asked: refused) as server:
        with pytest.raises(SourceRefused, match=r"/token: gave no token, answered 401.*invalid_client") as error:
            first(place.source(oauth(server)))
        assert SECRET not in str(error.value)
        assert (error.value.__cause__, error.value.__context__) == (None, None)
    with ApiServer(lambda asked: Answer(503)) as server:
        with pytest.raises(SourceUnavailable, match=r"no token from .*503"):
            first(place.source(oauth(server)))
        assert len(server.asked) == 3
    assert place.asked == []


def test_a_token_goes_to_the_flows_own_host_alone() -> None:
    with ApiServer(Tokens()) as server, ApiServer(lambda asked: json_answer([2])) as other, ApiServer() as api:
        api.script.append(json_answer([1], Link=f"<{other.url}/2>; rel=next"))
        source = RestSource(
            url=api.url,
            auth=oauth(server),  # type: ignore[arg-type]
            pagination={"type": "link"},  # type: ignore[arg-type]
            allow_private=True,
            **FAST,
        )
        assert len(list(source.read(None))) == 2
        assert "authorization" not in other.asked[0].headers


SIGNING = """
import hashlib, hmac

def sign(request):
    said = f"{request.method} {request.path_url}".encode() + (request.body or b"")
    request.headers["X-Signature"] = hmac.new(b"s3cret", said, hashlib.sha256).hexdigest()
    return request

def fail(request):
    raise KeyError("no key today")

def forget(request):
    sign(request)
"""


@pytest.fixture
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "signing_of_mine.py").write_text(SIGNING)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("signing_of_mine", None)


def signature(said: str, body: bytes = b"") -> str:
    return hmac.new(b"s3cret", said.encode() + body, hashlib.sha256).hexdigest()


@pytest.mark.usefixtures("signing")
def test_a_function_signs_what_is_sent(place: Place) -> None:
    first(place.source({"type": "function", "function": "signing_of_mine:sign"}))
    assert place.asked[0].headers["x-signature"] == signature("GET /x?a=%E9")


@pytest.mark.usefixtures("signing")
def test_it_signs_the_body_of_a_post_and_each_page_and_nothing_for_others() -> None:
    with ApiServer(lambda asked: json_answer([2])) as other, ApiServer() as api:
        api.script.extend([json_answer([0], Link="</2>; rel=next"), json_answer([1], Link=f"<{other.url}>; rel=next")])
        source = RestSource(
            url=api.url + "/1",
            auth={"type": "function", "function": "signing_of_mine:sign"},  # type: ignore[arg-type]
            pagination={"type": "link"},  # type: ignore[arg-type]
            allow_private=True,
            **FAST,
        )
        assert len(list(source.read(None))) == 3
        assert [asked.headers["x-signature"] for asked in api.asked] == [signature("GET /1"), signature("GET /2")]
        assert "x-signature" not in other.asked[0].headers
    with ApiServer(lambda asked: json_answer([1])) as api:
        auth: Any = {"type": "function", "function": "signing_of_mine:sign"}
        first(RestSource(url=api.url + "/1", method="POST", body={"q": 1}, auth=auth, **FAST))
        assert api.asked[0].headers["x-signature"] == signature("POST /1", b'{"q":1}')


@pytest.mark.usefixtures("signing")
def test_a_function_that_fails_is_told_with_what_it_said(place: Place) -> None:
    with pytest.raises(SourceUnavailable, match="signing_of_mine:fail failed: KeyError: 'no key today'"):
        first(place.source({"type": "function", "function": "signing_of_mine:fail"}))
    with pytest.raises(SourceRefused, match="returned NoneType, expected the request"):
        first(place.source({"type": "function", "function": "signing_of_mine:forget"}))
    with pytest.raises(ValidationError, match="signing_of_mine"):
        place.source({"type": "function", "function": "signing_of_mine:nothing"})
