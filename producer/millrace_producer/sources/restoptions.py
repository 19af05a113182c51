"""Options of the rest source."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from millrace_pipeline.flows.units import Size
from millrace_pipeline.web import checked_url
from millrace_producer.sources.base import Source
from millrace_producer.sources.cells import CellOptions
from millrace_producer.sources.incremental import Incremental
from millrace_producer.sources.jsonbody import put
from millrace_producer.sources.pagination import Cursor, Offset, PageNumber, Pagination
from millrace_producer.sources.recordoptions import RecordOptions
from millrace_producer.sources.restbody import BodyFormat, CsvLayout
from millrace_producer.sources.timetable import Timed
from millrace_producer.sources.weboptions import Wait, WebOptions


class RestOptions(CellOptions, RecordOptions, Timed, WebOptions, Source):
    """What to ask for, as whom, how to go from page to page and from round to round."""

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "polls: pages, cursors, cron"
    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="What to ask for; http or https.")
    method: Literal["GET", "POST"] = Field(default="GET", description="POST where what is asked stands in `body`.")
    params: dict[str, str | list[str]] = Field(
        default_factory=dict,
        repr=False,
        description="Query parameters of every request; one that is to stand several times has a list.",
    )
    body: Any = Field(
        default=None, repr=False, description="What a POST says: text as it is, all else as JSON, such as a query."
    )
    format: BodyFormat = Field(default="json", description="What an answer is: json, jsonl (NDJSON) or csv.")
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of a CSV's columns. Default: the first row of each page has them.",
    )
    quote: str | None = Field(
        default='"',
        min_length=1,
        max_length=1,
        description="What is around a CSV's fields that hold delimiters or line ends; null for nothing.",
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="What is between the fields of a CSV.")
    records: str = Field(
        default="", description="JSON pointer to the records in an answer: a list, or one record. Default: all of it."
    )
    map_key: str | None = Field(
        default=None,
        min_length=1,
        description="The records are the values of an object: the field of each that takes its name there, such as id.",
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

    @property
    def csv(self) -> CsvLayout:
        """How the rows of a CSV are read."""
        return CsvLayout(
            self.columns, self.delimiter, self.quote, self.cells, heeds_sep="delimiter" not in self.model_fields_set
        )

    @field_validator("url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        checked_url(url, "https://api.example.org/v1/orders")
        if urlsplit(url).username or urlsplit(url).password:
            raise ValueError("a user and password in the URL: expected them in auth, as {type: basic, username: …}")
        return url

    @field_validator("params")
    @classmethod
    def _lists_have_values(cls, params: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        if empty := next((name for name, value in params.items() if value == []), None):
            raise ValueError(f"{empty} has no value: expected text, or a list of texts")
        return params

    @model_validator(mode="after")
    def _it_can_be_asked_for(self) -> RestOptions:
        if self.body is not None and self.method != "POST":
            raise ValueError("body is what a POST says: expected method: POST beside it")
        if self.format != "csv" and (
            {"columns", "delimiter", "quote"} & self.model_fields_set or self.null is not None
        ):
            raise ValueError("columns, delimiter, quote and null are for format csv")
        if self.format != "json":
            self._no_pointers_into_the_body()
        asked_for = [getattr(self.pagination, "parameter", None), self.incremental and self.incremental.parameter]
        for pointer in asked_for:
            if pointer and pointer.startswith("/"):
                if not isinstance(self.body, dict | list):
                    raise ValueError(f"{pointer} points into the body: expected method: POST, and a body that is JSON")
                put(copy.deepcopy(self.body), pointer, None)
        if asked_for[0] and asked_for[0] == asked_for[1] and not self._goes_by_the_last_record():
            raise ValueError(
                f"pagination.parameter and incremental.parameter are both {asked_for[0]!r}: one would take the other's "
                "place, name different ones"
            )
        self._places_in_the_url_are_filled()
        return self

    def _goes_by_the_last_record(self) -> bool:
        """Return True where the next page is asked for by what is new: by the same value either way."""
        new = self.incremental.field if self.incremental else None
        return isinstance(self.pagination, Cursor) and self.pagination.record == new is not None

    def _places_in_the_url_are_filled(self) -> None:
        paged = self.pagination.parameter if isinstance(self.pagination, PageNumber | Offset) else None
        new = self.incremental.parameter if self.incremental and self.incremental.start is not None else None
        for name in ("page", "offset", self.incremental and self.incremental.parameter):
            if name and "{" + name + "}" in self.url and name not in (paged, new):
                mend = "incremental.start" if name not in ("page", "offset") else "pagination by page or offset"
                raise ValueError(f"{{{name}}} stands in url, and nothing says what for: expected {mend}")

    def _no_pointers_into_the_body(self) -> None:
        pointers = [getattr(self.pagination, name, None) for name in ("field", "more")]
        if any(pointers) or self.records or self.map_key:
            raise ValueError(f"records, map_key, field and more point into JSON, and format is {self.format}")
