"""Server-sent events: a URL that keeps talking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib.metadata import version
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from pipeline.envelope import timestamp
from pipeline.units import Duration, Size
from pipeline.web import checked_headers, checked_url, sendable
from producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused
from producer.sources.eventclient import EventClient, Limits
from producer.sources.fields import Fields, Format

WIKIMEDIA_HOST = "stream.wikimedia.org"

Wait = Annotated[Duration, Field(gt=0, le=86_400)]


class SseSource(Source):
    """Reads server-sent events (`text/event-stream`) from a URL.

    Every event becomes a record of its data, byte for byte, with the event's name as `type` and the last event id as
    its position: a restart sends it as `Last-Event-ID` and the server goes on after it.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="Where the events come from; http or https.")
    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Further request headers, such as Authorization."
    )
    format: Format = Field(
        default="json",
        description="json: the data is JSON, what is not becomes a dead letter. text: the data becomes a JSON string.",
    )
    key: str | None = Field(
        default=None,
        description="JSON pointer to the record's key. Default: /meta/id for stream.wikimedia.org, else none.",
    )
    time: str | None = Field(
        default=None,
        description="JSON pointer to the time of the event, ISO 8601 or Unix seconds. "
        "Default: /meta/dt for stream.wikimedia.org, else none.",
    )
    since: datetime | None = Field(
        default=None,
        description="Where to begin, as the query parameter `since`; only sent while there is no checkpoint.",
    )
    user_agent: str = Field(
        default_factory=lambda: f"Millrace/{version('millrace')} (event stream to queue pipeline; python-requests)",
        min_length=1,
        description="User-Agent header. Wikimedia's policy asks for a way to contact you in it.",
    )
    connect_timeout: Wait = Field(default=10, description="How long to wait for a connection.")
    read_timeout: Wait = Field(
        default=60, description="Silence (comments count as talk) after which the connection is made anew."
    )
    max_event_bytes: Size = Field(
        default=4 * 1024 * 1024,
        ge=1,
        description="A larger event is dropped and logged; reading goes on after it.",
    )
    max_redirects: int = Field(default=5, ge=0, le=50, description="Redirects to follow for one connection.")
    allow_private: bool = Field(
        default=False,
        description="Follow redirects to other hosts also where those have loopback, link-local or private addresses.",
    )
    max_failures: int = Field(
        default=5,
        ge=1,
        description="Failed connections in a row, no event between them, until the source is unavailable.",
    )
    backoff_initial: Wait = Field(
        default=1, description="The longest wait after a first failure; it doubles with each further one."
    )
    backoff_max: Wait = Field(
        default=30, description="The longest wait, also of what the server's `retry` field may ask for."
    )

    @field_validator("url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        return checked_url(url, "https://stream.wikimedia.org/v2/stream/recentchange")

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @field_validator("user_agent")
    @classmethod
    def _one_line(cls, user_agent: str) -> str:
        if not sendable(user_agent):
            raise ValueError("holds a line break, a NUL, or blanks at an end")
        return user_agent

    @model_validator(mode="after")
    def _pointers_need_json(self) -> SseSource:
        if self.format == "text" and (self.key or self.time):
            raise ValueError("key and time point into JSON, and format is text")
        return self

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. Positions are event ids; a stream without any has none and starts anew after a restart."""
        if resume_from is not None and not isinstance(resume_from, str):
            raise SourceRefused(f"the checkpoint is a {type(resume_from).__name__}, not an event id")
        fields = Fields(self.format, *self._pointers())
        has_ids = resume_from is not None
        with closing(self._client(resume_from)) as events:
            for event in events:
                has_ids = has_ids or bool(event.id)
                yield fields.record(event.raw, position=event.id if has_ids else None, type=event.event)

    def _client(self, resume_from: str | None) -> EventClient:
        headers = {"User-Agent": self.user_agent} | {name.title(): value for name, value in self.headers.items()}
        return EventClient(
            self.url,
            headers=headers,
            last_id=resume_from or "",
            since=timestamp(self.since) if self.since and resume_from is None else None,
            limits=Limits(
                connect_timeout=self.connect_timeout,
                read_timeout=self.read_timeout,
                max_event_bytes=self.max_event_bytes,
                max_redirects=self.max_redirects,
                max_failures=self.max_failures,
                backoff_initial=self.backoff_initial,
                backoff_max=self.backoff_max,
            ),
            allow_private=self.allow_private,
        )

    def _pointers(self) -> tuple[str | None, str | None]:
        """Where the key and the time stand: as given (null means nowhere), or as Wikimedia's events have them."""
        wikimedia = self.format == "json" and urlsplit(self.url).hostname == WIKIMEDIA_HOST
        key = "/meta/id" if wikimedia and "key" not in self.model_fields_set else self.key
        time = "/meta/dt" if wikimedia and "time" not in self.model_fields_set else self.time
        return key, time
