"""AWS Signature Version 4 by a function of the flow's own: what is sent bears the signature of botocore."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from millrace_producer.sources.rest import RestSource
from millrace_producer.sources.sse import SseSource
from millrace_producer.sources.websocket import WebsocketSource
from tests.integration.api_server import Answer, ApiServer, json_answer
from tests.integration.socket_server import SocketServer

KEY, SECRET, REGION, SERVICE = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1", "execute-api"

# As somebody would write it who has only AWS's page of it and what a function is given.
SIGNING = f"""
import hashlib, hmac
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

def sign(request):
    url = urlsplit(request.url)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    request.headers["Host"], request.headers["X-Amz-Date"] = url.netloc, now
    pairs = sorted((quote(name, "-_.~"), quote(value, "-_.~")) for name, value in parse_qsl(url.query, True))
    query = "&".join(f"{{name}}={{value}}" for name, value in pairs)
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    said = "\\n".join([
        request.method, quote(url.path or "/", "/-_.~"), query, f"host:{{url.netloc}}", f"x-amz-date:{{now}}", "",
        "host;x-amz-date", hashlib.sha256(body).hexdigest(),
    ])
    scope = f"{{now[:8]}}/{REGION}/{SERVICE}/aws4_request"
    key = b"AWS4{SECRET}"
    for part in scope.split("/"):
        key = digest(key, part)
    hashed = hashlib.sha256(said.encode()).hexdigest()
    signature = digest(key, f"AWS4-HMAC-SHA256\\n{{now}}\\n{{scope}}\\n{{hashed}}").hex()
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{{scope}}, SignedHeaders=host;x-amz-date, Signature={{signature}}"
    )
    return request
"""


@pytest.fixture(autouse=True)
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "sigv4_of_mine.py").write_text(SIGNING)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("sigv4_of_mine", None)


AUTH: Any = {"type": "function", "function": "sigv4_of_mine:sign"}


def by_botocore(asked: Any, method: str = "GET", body: bytes = b"") -> str:
    """The signature that botocore makes of a request as the server got it, at the time that it says."""
    headers = {"Host": asked.headers["host"], "X-Amz-Date": asked.headers["x-amz-date"]}
    request = AWSRequest(method, f"http://{asked.headers['host']}{asked.target}", data=body, headers=headers)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY, SECRET), SERVICE, REGION)
    said = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(said, request))


def sent(asked: Any) -> str:
    found = re.search(r"Signature=(\w+)$", asked.headers["authorization"])
    assert found
    return found[1]


QUERIES = ["", "?a=1", "?b=2&a=1", "?a=%20b%2Fc&a=%C3%A9", "?since=2026-11-01T00%3A00%3A00Z&empty=", "?a=~-_.&b=%2B"]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("kind", [RestSource, SseSource])
def test_a_request_by_http_bears_the_signature_of_botocore(kind: Any, query: str) -> None:
    event = Answer(200, b"data: 1\n\n", {"Content-Type": "text/event-stream"})
    with ApiServer(lambda asked: json_answer([1]) if kind is RestSource else event) as api:
        reading = kind(url=f"{api.url}/v1/orders{query}", auth=AUTH).read(None)
        assert len(list(islice(reading, 1))) == 1
        reading.close()
        assert sent(api.asked[0]) == by_botocore(api.asked[0])


@pytest.mark.parametrize("query", QUERIES)
def test_a_handshake_of_a_websocket_bears_the_signature_of_botocore(query: str) -> None:
    with SocketServer(lambda client: client.send("1")) as server:
        source = WebsocketSource(url=f"{server.url}/v1/stream{query}", auth=AUTH, end_at_close=True)
        assert len(list(source.read(None))) == 1
        assert sent(server.asked[0]) == by_botocore(server.asked[0])


def test_a_post_and_each_page_bear_a_signature_of_their_own() -> None:
    with ApiServer(lambda asked: json_answer([] if b'"page":3' in asked.body else [asked.body.decode()])) as api:
        pages: Any = {"type": "page", "parameter": "/page"}
        asks: dict[str, Any] = {"method": "POST", "body": {"query": "é", "page": 1}}
        source = RestSource(url=f"{api.url}/search", auth=AUTH, pagination=pages, **asks)
        assert len(list(source.read(None))) == 2
        assert len(api.asked) == 3
        assert len({sent(asked) for asked in api.asked}) == 3
        for asked in api.asked:
            assert sent(asked) == by_botocore(asked, "POST", asked.body)
