"""Batches posted to a URL."""

from __future__ import annotations

import gzip
import hashlib
import http.client
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote

import requests
import urllib3
from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.sinks.taken import Taken
from millrace_pipeline.auth import Auth, refuse_two
from millrace_pipeline.credentials import Credentials
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import AuthRefused, AuthUnavailable
from millrace_pipeline.failure import Failure
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.query import with_params
from millrace_pipeline.web import (
    checked_headers,
    checked_url,
    shown,
    status_text,
    wait_asked_for,
    why_no_answer,
)
from millrace_pipeline.websession import SessionOptions, WebSession

MULTI_STATUS, CONFLICT, TOO_LARGE = 207, 409, 413

NOT_THE_RECORDS = frozenset({401, 402, 403, 404, 405, 407, 408, 410, 421, 425, 426, 429, 431, 451})
"""What is wrong with the request whatever its records: it is sent again later. Any other 4xx is about the content."""

ANSWER_BYTES = 65_536
"""So much of an answer is read, to use the connection again; a longer one costs the connection."""

KEY_LENGTH = 255

Wait = Annotated[Duration, Field(gt=0, le=86_400)]


class HttpSink(SessionOptions, Sink):
    """Exactly once where the receiver heeds `Idempotency-Key`, else at least once: a request a batch, or one a record.

    The key is the batch's id, or the record's. A request whose answer never came is sent again under the same key. A
    batch that is too large is sent in halves; one whose content is refused is narrowed down to the records that cause
    it, which become dead letters.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "on to the next"
    guarantee: ClassVar[str] = "exactly once where the receiver heeds `Idempotency-Key`, else at least once"
    guaranteed_by: ClassVar[str] = "the batch's id, or the record's, as the key"

    url: str = Field(repr=False, description="Where to send to; http or https.")
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="The request's method.")
    format: Literal["array", "jsonl", "single"] = Field(
        "array",
        description="What a request holds: a batch as a JSON array, a batch as JSON Lines, or one record as it is.",
    )
    envelope: bool = Field(
        False, description="Send whole CloudEvents envelopes, with id, source, type and time, not only their data."
    )
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Further request headers.")
    auth: Auth | None = Field(
        None, description="How to say who we are: bearer, basic, header, query, oauth2 or function. It is never logged."
    )
    key_header: str = Field("Idempotency-Key", min_length=1, description="The header that the key is sent in.")
    conflict: Literal["wait", "delivered", "reject"] = Field(
        "wait",
        description="What 409 means: a request with this key is still at work, so wait; it is there already; or the "
        "records are refused.",
    )
    compression: Literal["none", "gzip"] = Field("none", description="How the body is compressed.")
    connect_timeout: Wait = Field(10, description="How long to wait for a connection.")
    timeout: Wait = Field(60, description="How long the answer may take, from the request to its end.")

    _session: WebSession | None = PrivateAttr(None)
    _credentials: Credentials | None = PrivateAttr(None)
    _taken: Taken = PrivateAttr(default_factory=Taken)

    @field_validator("url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        return checked_url(url, "https://example.com/events")

    @field_validator("headers")
    @classmethod
    def _headers_are_sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @model_validator(mode="after")
    def _auth_sends_its_own(self) -> Self:
        refuse_two(self.auth, self.headers, {})
        return self

    @field_validator("key_header")
    @classmethod
    def _key_header_is_a_name(cls, name: str) -> str:
        checked_headers({name: ""})
        return name

    def probe(self) -> str | None:
        """See `Sink.probe`. OPTIONS asks what a URL takes, and changes nothing there."""
        try:
            answer = self._ask("OPTIONS", {}, None)
            answer.close()
        finally:
            self.close()
        said = f"answered {status_text(answer.status_code)} to OPTIONS"
        if answer.status_code in (401, 403, 500, 502, 503, 504):  # 501 and 405 only say that it knows no OPTIONS
            raise SinkUnavailable(f"{shown(self.url)}: {said}")
        return f"{said}; no {self.method} was tried, which would write"

    def write(self, batch: Batch) -> None:
        """Sends the batch, the good half of a batch too where the other is refused; that is not sent again."""
        if self._taken.of(batch).has_all(batch):
            return  # what is left of a batch after its bad records were named
        lines = batch.envelope_lines if self.envelope else batch.lines
        killpoint("sink.before_write")
        send = self._one_by_one if self.format == "single" else self._together
        rejected = dict(send(batch, lines))
        killpoint("sink.after_write")
        if rejected:
            raise RecordsRejected(rejected)

    def close(self) -> None:
        """Ends the connections."""
        for part in (self._session, self._credentials):
            if part is not None:
                part.close()
        self._session = self._credentials = None

    def _one_by_one(self, batch: Batch, lines: list[bytes]) -> Iterator[tuple[int, str]]:
        for index, envelope in enumerate(batch.envelopes):
            if envelope in self._taken:
                continue
            if refused := self._send(lines[index], _key_of(envelope)):
                yield index, refused
            else:
                self._taken.add([envelope])

    def _together(self, batch: Batch, lines: list[bytes]) -> Iterator[tuple[int, str]]:
        """Halves what is refused, always at the same places and so under the same keys, until a record stands alone."""
        self._taken.clear()
        body = _array if self.format == "array" else _lines
        yield from self._range(batch, lines, body, 0, len(batch))

    def _range(
        self, batch: Batch, lines: list[bytes], body: Callable[[list[bytes]], bytes], first: int, end: int
    ) -> Iterator[tuple[int, str]]:
        key = batch.id if end - first == len(batch) else f"{batch.id}:{first}-{end - 1}"
        refused = self._send(body(lines[first:end]), key)
        if refused is None:
            self._taken.add(batch.envelopes[first:end])
        elif end - first == 1:
            yield first, refused
        else:
            middle = (first + end) // 2
            yield from self._range(batch, lines, body, first, middle)
            yield from self._range(batch, lines, body, middle, end)

    def _send(self, body: bytes, key: str) -> str | None:
        """None once the receiver has it, or why it refuses this content. Raises SinkUnavailable."""
        if self.compression == "gzip":
            body = gzip.compress(body, 6, mtime=0)
        answer = self._ask(self.method, {self.key_header: key}, body)
        killpoint("sink.after_request")
        return self._verdict(answer)

    def _ask(self, method: str, headers: dict[str, str], body: bytes | None) -> requests.Response:
        """Return the answer to a request that says who asks. Raises SinkUnavailable where there is none."""
        answer = self._answer(method, headers, body)
        if isinstance(answer, Failure):  # raised here, since the exception's own words may hold the URL, or a secret
            raise SinkUnavailable(answer.reason, retry_after=answer.retry_after)
        return answer

    def _answer(self, method: str, headers: dict[str, str], body: bytes | None) -> requests.Response | Failure:
        session, credentials = self._connected()
        try:
            said = credentials.headers()
            if isinstance(said, Failure):
                return said
            answer = session.ask(
                method,
                with_params(self.url, credentials.params),
                body=body,
                headers=headers | {name: text.encode() for name, text in said.items()},
                timeout=(self.connect_timeout, self.timeout),
                sign=credentials.sign,
            )
        except (AuthUnavailable, AuthRefused) as error:
            return Failure(f"{shown(self.url)}: {error}")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return Failure(f"{shown(self.url)}: {self._why(error)}")
        if not credentials.renewed(answer.status_code):
            return answer
        answer.close()
        return Failure(f"{shown(self.url)} answered {status_text(answer.status_code)}: asks for a new token")

    def _why(self, error: BaseException) -> str:
        return why_no_answer(error, connect_timeout=self.connect_timeout, read_timeout=self.timeout)

    def _verdict(self, answer: requests.Response) -> str | None:
        status, said = answer.status_code, _read(answer)
        if status == MULTI_STATUS:
            repeats.warn(
                "answer_in_parts",
                kind="",
                of=shown(self.url),
                url=shown(self.url),
                reason="207: it may have taken some records and refused others; all count as delivered",
                mend="format: single asks for each record by itself",
            )
        if status // 100 == 2 or (status == CONFLICT and self.conflict == "delivered"):
            return None
        waits = status in NOT_THE_RECORDS or (status == CONFLICT and self.conflict == "wait")
        if status // 100 == 4 and not waits:
            return self._without_secrets(f"{shown(self.url)} answered {status_text(status)}{said and ': '}{said}")
        mend = f" to {shown(answer.headers.get('location', ''))}: name that in `url`" if status // 100 == 3 else ""
        raise SinkUnavailable(
            f"{shown(self.url)} answered {status_text(status)}{mend}",
            retry_after=wait_asked_for(answer.headers),
        )

    def _connected(self) -> tuple[WebSession, Credentials]:
        if self._session is None or self._credentials is None:
            self._session = self._connect()
            patience = (self.connect_timeout, self.timeout)
            self._credentials = Credentials(self.auth, self._new_session, timeout=patience, why=self._why)
        return self._session, self._credentials

    def _new_session(self) -> WebSession:
        return WebSession(headers=self.timeout, answer=self.timeout, proxy=self.proxy, ca_file=self.ca_file)

    def _connect(self) -> WebSession:
        session = self._new_session()
        session.headers["Content-Type"] = self._content_type()
        if self.compression == "gzip":
            session.headers["Content-Encoding"] = "gzip"
        session.headers.update({name: value.encode() for name, value in self.headers.items()})
        return session

    def _content_type(self) -> str:
        if self.format == "jsonl":
            return "application/x-ndjson"
        batch = "-batch" if self.format == "array" else ""
        return f"application/cloudevents{batch}+json" if self.envelope else "application/json"

    def _without_secrets(self, text: str) -> str:
        secrets = list(self.headers.values())
        if self._credentials is not None:
            secrets += self._credentials.secrets()
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= 4:
                text = text.replace(secret, "…")
        return text


def _array(lines: list[bytes]) -> bytes:
    return b"[%b]" % b",".join(lines)


def _lines(lines: list[bytes]) -> bytes:
    return b"\n".join((*lines, b""))


def _key_of(envelope: Envelope) -> str:
    """The record's id as a header's value: what can't stand there is percent-encoded, what is too long a hash."""
    key = quote(envelope.id, safe="!#$&'()*+,/:;=?@[]^`{|}")
    return key if len(key) <= KEY_LENGTH else hashlib.sha256(envelope.id.encode()).hexdigest()


def _read(answer: requests.Response) -> str:
    """The beginning of what the answer says. Its status counts, also where the rest never comes."""
    said: Any = b""
    try:
        while more := answer.raw.read1(ANSWER_BYTES, decode_content=True):
            said += more
            if len(said) > ANSWER_BYTES:
                answer.close()
                break
        answer.raw.release_conn()
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError):
        answer.close()
    return " ".join(said[:400].decode(errors="replace").split())[:200]
