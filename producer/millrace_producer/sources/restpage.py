"""REST page: what one answer of an API comes to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from millrace_pipeline.errors import SourceRefused
from millrace_producer.sources.restbody import Raw
from millrace_producer.sources.stamps import Answering


class Validators(NamedTuple):
    """What a server calls this state of a page: sent back, it answers 304 where nothing has changed."""

    etag: str | None = None
    modified: str | None = None

    def headers(self) -> dict[str, str]:
        """The request headers that ask for anything but this state."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in named.items() if value}


NEVER = Answering(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


class Page(NamedTuple):
    """`records` as they came, byte for byte; the token of the page after it, or None; whether nothing has changed."""

    records: list[Raw]
    following: Any
    validators: Validators
    answering: Answering = NEVER


class PageGone(SourceRefused):
    """The server doesn't know this page (any more)."""
