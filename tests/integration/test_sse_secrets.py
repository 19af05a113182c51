"""What the SSE source says of itself names things, and never a secret."""

from __future__ import annotations

import logging
import traceback

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from millrace_pipeline.errors import SourceError
from millrace_producer.sources.sse import SseSource
from tests.integration.sse_server import OK, ScriptedServer, answer

SECRET = "s3cret"


def source(url: str) -> SseSource:
    url = url.replace("http://", f"http://user:{SECRET}@") + f"?token={SECRET}#{SECRET}"
    return SseSource(
        url=url,
        headers={"X-Api-Key": SECRET},
        max_failures=2,
        backoff_initial=0.01,
        read_timeout=0.3,
        connect_timeout=2,
    )


ANSWERS = {
    "an event, then a drop": OK + b"data: 1\n\n",
    "a refusal": answer("403 Forbidden"),
    "a failure": answer("500 Oops"),
    "a page": answer("200 OK", "Content-Type: text/html", b"<html>"),
    "a redirect": answer("302 Found", f"Location: /there?token={SECRET}"),
    "a redirect with a password": answer("302 Found", f"Location: http://u:{SECRET}@no-such-host.invalid/x?{SECRET}"),
    "a redirect to nowhere": answer("302 Found", f"Location: ftp://{SECRET}/"),
    "a malformed header": b"HTTP/1.1 500 Oops\r\nno colon\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
    "a large event": OK + b"data: " + b"x" * 5_000_000 + b"\n\n",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_secret_is_logged_raised_or_printed(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    said = ""
    with ScriptedServer(*[ANSWERS[name]] * 4) as server, capture_logs() as logs:
        raised: SourceError | None = None
        try:
            list(source(server.url).read(None))
        except SourceError as error:
            raised = error
        if raised is not None:
            said += "".join(traceback.format_exception(raised))
            assert (raised.__cause__, raised.__context__) == (None, None)
        assert f"token={SECRET}" in server.asked[0].line
        assert server.asked[0].headers["x-api-key"] == SECRET
    said += repr(logs) + caplog.text
    printed = capfd.readouterr()
    assert SECRET not in said + printed.out + printed.err
    assert printed.out == ""
    assert server.url in repr(logs) + said, "the place is named all the same"


def test_no_secret_in_the_options_as_they_are_shown() -> None:
    shown = repr(source("http://localhost/"))
    assert SECRET not in shown


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"ftp://user:{SECRET}@host/"},
        {"url": f"//{SECRET}"},
        {"url": f"http://host:{SECRET}/"},
        {"url": "http://host/", "headers": {"X-Api-Key": f"{SECRET}\r\nX: y"}},
        {"url": "http://host/", "headers": {f"bad {SECRET}": "x"}},
        {"url": "http://host/", "headers": f"X-Api-Key: {SECRET}"},
        {"url": "http://host/", "user_agent": "a\nb"},
        {"url": "http://host/", "format": "text", "key": "/id"},
    ],
)
def test_options_that_can_not_work_are_refused_without_showing_a_secret(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        SseSource(**options)  # type: ignore[arg-type]
    assert SECRET not in str(refused.value)
