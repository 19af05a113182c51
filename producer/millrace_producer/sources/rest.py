"""A REST API, asked once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from millrace_pipeline.flows.units import Size
from millrace_pipeline.web import checked_url
from millrace_producer.sources.auth import Auth
from millrace_producer.sources.base import DeadLetter, Position, Record, Source
from millrace_producer.sources.incremental import Incremental
from millrace_producer.sources.pagination import Pagination
from millrace_producer.sources.restapi import Api
from millrace_producer.sources.rounds import OrderedRounds, Rounds
from millrace_producer.sources.timetable import Timed, now, wait_until
from millrace_producer.sources.weboptions import Wait, WebOptions


class RestSource(Timed, WebOptions, Source):
    """Asks a REST API for records, page after page: once, or again and again at an interval or as cron says.

    A record stays byte for byte what the API gave. With `incremental` each round asks only for what is new; without,
    each round gives all there is, or nothing where the API says that nothing has changed.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="What to ask for; http or https.")
    params: dict[str, str] = Field(default_factory=dict, repr=False, description="Query parameters of every request.")
    auth: Auth | None = Field(default=None, description="How to say who we are: bearer, basic, header or query.")
    records: str = Field(
        default="", description="JSON pointer to the records in an answer: a list, or one record. Default: all of it."
    )
    key: str | None = Field(default=None, description="JSON pointer to a record's key, such as /id.")
    time: str | None = Field(default=None, description="JSON pointer to a record's time, ISO 8601 or Unix seconds.")
    pagination: Pagination | None = Field(
        default=None, description="How the next page is asked for: link, next, cursor, page or offset."
    )
    incremental: Incremental | None = Field(
        default=None, description="Asks only for what is new, by a field that grows."
    )
    read_timeout: Wait = Field(
        default=60, description="Silence after which a request is given up; also how long the headers may take in all."
    )
    answer_timeout: Wait | None = Field(
        default=None, description="How long an answer may take in all, body included. Default: five times read_timeout."
    )
    max_response_bytes: Size = Field(default=64 * 1024 * 1024, ge=1, description="A larger answer is refused.")

    @field_validator("url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        checked_url(url, "https://api.example.org/v1/orders")
        if urlsplit(url).username or urlsplit(url).password:
            raise ValueError("a user and password in the URL: expected them in auth, as {type: basic, username: …}")
        return url

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. A position is a value of the incremental field; without one, a place in a page."""
        kind = OrderedRounds if self.incremental and self.incremental.ordered else Rounds
        timetable = self.timetable()
        with closing(Api(self)) as api:
            rounds = kind(api, self, resume_from)
            if timetable and rounds.finished and (due := timetable.after(rounds.finished)):
                wait_until(due)
            while True:
                yield from rounds.round()
                due = timetable.after(now()) if timetable else None
                if due is None:
                    return
                wait_until(due)
