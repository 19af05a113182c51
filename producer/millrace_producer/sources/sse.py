"""Server-sent events: a URL that keeps talking."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from millrace_pipeline.flows.units import Size
from millrace_pipeline.moment import timestamp
from millrace_pipeline.web import checked_url
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused
from millrace_producer.sources.eventchoice import Chosen, EventChoice
from millrace_producer.sources.eventclient import EventClient, Limits
from millrace_producer.sources.fields import Fields, Format
from millrace_producer.sources.heard import Heard
from millrace_producer.sources.recordoptions import RecordOptions
from millrace_producer.sources.weboptions import Wait, WebOptions

WIKIMEDIA_HOST = "stream.wikimedia.org"


class SseSource(EventChoice, RecordOptions, WebOptions, Source):
    """Reads server-sent events (`text/event-stream`) from a URL.

    Every event becomes a record of its data, byte for byte, with the event's name as `type` and the last event id as
    its position: a restart sends it as `Last-Event-ID` and the server goes on after it.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "streams, resumed where the list stopped"
    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="Where the events come from; http or https.")
    format: Format = Field(
        default="json",
        description="json: the data is JSON, what is not becomes a dead letter. text: the data becomes a JSON string.",
    )
    key: str | None = Field(
        default=None,
        description="What names a record: a field, or a JSON pointer such as /id. Default: /meta/id for "
        "stream.wikimedia.org, else nothing does.",
    )
    time: str | None = Field(
        default=None,
        description="When a record happened: a field, or a JSON pointer such as /at. It holds ISO 8601, RFC 2822, or a "
        "number since 1970. Default: /meta/dt for stream.wikimedia.org, else when it was published.",
    )
    since: datetime | None = Field(
        default=None,
        description="Where to begin, as the query parameter `since`; only sent while there is no checkpoint.",
    )
    read_timeout: Wait = Field(
        default=60,
        description="Silence (comments count as talk) after which the connection is made anew; also how long the "
        "headers may take in all.",
    )
    max_event_bytes: Size = Field(
        default=4 * 1024 * 1024,
        ge=1,
        description="A larger event is dropped and logged; reading goes on after it.",
    )
    backoff_max: Wait = Field(
        default=30, description="The longest wait, also of what the server's `retry` field may ask for."
    )

    _heard: Heard = PrivateAttr(default_factory=Heard)

    @field_validator("url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        return checked_url(url, "https://stream.wikimedia.org/v2/stream/recentchange")

    def probe(self) -> str | None:
        """See `Source.probe`. The stream is opened, its headers are read, and it is closed again."""
        with closing(self._client(None, attempts=1)) as client:
            client.connect()
            return "the stream is open to us"

    def describe(self, position: Position) -> str:
        """See `Source.describe`. A position is an event's id; one of Wikimedia's tells its time, too."""
        if not isinstance(position, str) or not position or re.search(r"[\0\r\n]", position):
            raise SourceRefused("a position is an event's id: text in one line")
        return f"after the event whose id is {position}{_time_in(position)}"

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. Positions are event ids; a stream without any has none and starts anew after a restart."""
        if resume_from is not None and not isinstance(resume_from, str):
            raise SourceRefused(f"the checkpoint is a {type(resume_from).__name__}, not an event id")
        fields = Fields(self.format, *self.pointers(), self.time_unit)
        chosen = Chosen(self, fields)
        has_ids = resume_from is not None
        with closing(self._client(resume_from)) as events:
            for event in events:
                has_ids = has_ids or bool(event.id)
                record = chosen.record(event, event.id if has_ids else None)
                if record is not None:
                    yield record

    def _client(self, resume_from: str | None, attempts: int | None = None) -> EventClient:
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
                max_failures=attempts or self.max_failures,
                backoff_initial=self.backoff_initial,
                backoff_max=self.backoff_max,
            ),
            heard=self._heard,
            allow_private=self.allow_private,
            auth=self.auth,
            proxy=self.proxy,
            ca_file=self.ca_file,
        )

    def pointers(self) -> tuple[str | None, str | None]:
        """Where the key and the time stand: as given (null means nowhere), or as Wikimedia's events have them."""
        wikimedia = self.format == "json" and urlsplit(self.url).hostname == WIKIMEDIA_HOST
        key = "/meta/id" if wikimedia and "key" not in self.model_fields_set else self.key
        time = "/meta/dt" if wikimedia and "time" not in self.model_fields_set else self.time
        return key, time


def _time_in(id: str) -> str:
    """The time that an id tells, as those of Wikimedia's streams do: a list of places in topics."""
    try:
        times = [place["timestamp"] for place in json.loads(id) if isinstance(place.get("timestamp"), int)]
        return f", of {datetime.fromtimestamp(max(times) / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, TypeError, AttributeError, OverflowError):
        return ""
