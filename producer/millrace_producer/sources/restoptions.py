"""Options of the rest source."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator

from millrace_pipeline.flows.units import Size
from millrace_pipeline.web import checked_url
from millrace_producer.sources.auth import Auth
from millrace_producer.sources.base import Source
from millrace_producer.sources.incremental import Incremental
from millrace_producer.sources.pagination import Pagination
from millrace_producer.sources.recordoptions import RecordOptions
from millrace_producer.sources.timetable import Timed
from millrace_producer.sources.weboptions import Wait, WebOptions


class RestOptions(RecordOptions, Timed, WebOptions, Source):
    """What to ask for, as whom, how to go from page to page and from round to round."""

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "polls: pages, cursors, cron"
    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="What to ask for; http or https.")
    params: dict[str, str] = Field(default_factory=dict, repr=False, description="Query parameters of every request.")
    auth: Auth | None = Field(default=None, description="How to say who we are: bearer, basic, header or query.")
    records: str = Field(
        default="", description="JSON pointer to the records in an answer: a list, or one record. Default: all of it."
    )
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
