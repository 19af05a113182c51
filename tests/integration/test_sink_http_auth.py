"""Every `auth` that a source has, of the http sink."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.http import HttpSink
from tests.contracts.sink_records import batch_of
from tests.http_receiver import Answer, Receiver
from tests.integration.api_server import Answer as Said
from tests.integration.api_server import ApiServer
from tests.integration.test_web_auth import SECRET, Tokens, oauth

BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()
FORMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "bearer": ({"type": "bearer", "token": SECRET}, "authorization", f"Bearer {SECRET}"),
    "basic": ({"type": "basic", "username": "me", "password": SECRET}, "authorization", f"Basic {BASIC}"),
    "header": ({"type": "header", "name": "X-Api-Key", "value": SECRET}, "x-api-key", SECRET),
}

SIGNING = """\
import hashlib, hmac

def signed(request):
    request.headers["X-Signature"] = hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    return request

def broken(request):
    raise KeyError("no key")

def nothing(request):
    return None
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "signing_for_sinks.py").write_text(SIGNING)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("signing_for_sinks", None)


def sink(receiver: Receiver, auth: dict[str, Any], **options: Any) -> HttpSink:
    return HttpSink(url=f"{receiver.url}/in?a=%E9", auth=auth, **options)


@pytest.mark.parametrize("form", FORMS)
def test_a_fixed_secret_is_sent_with_each_request(receiver: Receiver, form: str) -> None:
    auth, header, expected = FORMS[form]
    http = sink(receiver, auth, format="single")
    http.write(batch_of("b", [{"n": 1}, {"n": 2}]))
    assert [asked.headers[header] for asked in receiver.asked] == [expected] * 2


def test_a_query_key_is_added_to_the_url_and_the_rest_of_it_stays(receiver: Receiver) -> None:
    sink(receiver, {"type": "query", "name": "key", "value": SECRET}).write(batch_of("b", [{"n": 1}]))
    assert receiver.asked[0].path == f"/in?a=%E9&key={SECRET}"


def test_a_token_is_asked_for_and_kept(receiver: Receiver) -> None:
    with ApiServer(tokens := Tokens()) as server:
        http = sink(receiver, oauth(server), format="single")
        http.write(batch_of("b", [{"n": 1}, {"n": 2}]))
    assert tokens.given == 1
    assert [asked.headers["authorization"] for asked in receiver.asked] == ["Bearer token-1"] * 2


def test_a_token_that_was_revoked_is_replaced_and_the_batch_sent_under_the_same_key(receiver: Receiver) -> None:
    with ApiServer(tokens := Tokens()) as server:
        http = sink(receiver, oauth(server))
        http.write(batch_of("a", [{"n": 1}]))
        receiver.script.append(Answer(401))
        with pytest.raises(SinkUnavailable, match=r"401.*asks for a new token"):
            http.write(batch_of("b", [{"n": 2}]))
        http.write(batch_of("b", [{"n": 2}]))
    assert tokens.given == 2
    assert [asked.headers["authorization"] for asked in receiver.asked[1:]] == ["Bearer token-1", "Bearer token-2"]
    assert len({asked.headers["idempotency-key"] for asked in receiver.asked[1:]}) == 1


@pytest.mark.parametrize("status", [400, 401, 503])
def test_without_a_token_nothing_is_sent_and_the_batch_waits(receiver: Receiver, status: int) -> None:
    with (
        ApiServer(lambda asked: Said(status)) as server,
        pytest.raises(SinkUnavailable, match=str(status)) as failed,
    ):
        sink(receiver, oauth(server)).write(batch_of("b", [{"n": 1}]))
    assert receiver.asked == []
    assert SECRET not in str(failed.value)
    assert (failed.value.__cause__, failed.value.__context__) == (None, None)


def test_a_function_signs_what_is_sent(receiver: Receiver) -> None:
    http = sink(receiver, {"type": "function", "function": "signing_for_sinks:signed"})
    http.write(batch_of("b", [{"n": 1}]))
    (asked,) = receiver.asked
    assert asked.headers["x-signature"] == hmac.new(SECRET.encode(), asked.body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("function", "said"), [("broken", "KeyError"), ("nothing", "NoneType")])
def test_a_function_that_fails_keeps_the_batch_waiting(receiver: Receiver, function: str, said: str) -> None:
    http = sink(receiver, {"type": "function", "function": f"signing_for_sinks:{function}"})
    with pytest.raises(SinkUnavailable, match=said):
        http.write(batch_of("b", [{"n": 1}]))
    assert receiver.asked == []


@pytest.mark.parametrize("form", FORMS)
def test_no_refusal_shows_the_secret(receiver: Receiver, form: str) -> None:
    auth, header, expected = FORMS[form]
    receiver.always = Answer(422, body=f"you said {expected} {header}".encode())
    with pytest.raises(RecordsRejected) as refused:
        sink(receiver, auth).write(batch_of("b", [{"n": 1}]))
    assert SECRET not in str(refused.value.reasons)
    assert BASIC not in str(refused.value.reasons)
