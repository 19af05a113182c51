"""Headers that a flow sets: each is sent, and none stands for another."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from millrace_consumer.sinks.http import HttpSink
from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource


@pytest.mark.parametrize(
    ("kind", "url"),
    [(HttpSink, "http://h/"), (RestSource, "http://h/"), (SseSource, "http://h/"), (WebsocketSource, "ws://h/")],
)
def test_two_names_of_one_header_are_refused(kind: Any, url: str) -> None:
    with pytest.raises(ValidationError, match="X-A, x-a are one header"):
        kind.model_validate({"url": url, "headers": {"X-A": "1", "x-a": "2"}})


@pytest.mark.parametrize(
    ("kind", "url"),
    [(HttpSink, "http://h/"), (RestSource, "http://h/"), (SseSource, "http://h/"), (WebsocketSource, "ws://h/")],
)
def test_a_header_beside_auth_that_sends_it_is_refused(kind: Any, url: str) -> None:
    auth = {"type": "bearer", "token": "t"}
    with pytest.raises(ValidationError, match="headers and auth both have Authorization"):
        kind.model_validate({"url": url, "headers": {"authorization": "1"}, "auth": auth})


def test_a_parameter_beside_auth_that_sends_it_is_refused() -> None:
    auth = {"type": "query", "name": "k", "value": "v"}
    with pytest.raises(ValidationError, match="params and auth both have k"):
        RestSource.model_validate({"url": "http://h/", "params": {"k": "1"}, "auth": auth})
