"""REST answer: what pagination asks of one."""

from __future__ import annotations

from collections.abc import Iterable

import requests

from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.web import as_utf8
from millrace_producer.sources.linkheader import is_readable, next_link
from millrace_producer.sources.pagination import NoToken
from millrace_producer.sources.restbody import RestBody

_IS_IT_THE_ONLY_PAGE = "so the first page was taken for the only one: is the pointer in `pagination` right?"


class RestAnswer:
    """An answer as pagination sees it."""

    def __init__(self, answer: requests.Response, body: RestBody) -> None:
        self.count = len(body.records)
        self.look = body.look
        self.look_at_last = body.look_at_last
        self._has = body.has
        self._answer = answer

    @property
    def next_link(self) -> str | None:
        """See `Answered.next_link`."""
        header = as_utf8(self._answer.headers.get("link", ""))
        if not is_readable(header):
            raise NoToken(f"has a Link header that can't be read: {header[:40]!r}")
        return next_link([header])

    def say_what_is_not_there(self, pointers: Iterable[str], shown: str) -> None:
        """Say of an only page which of the pointers finds nothing there.

        An API may leave that out; where the pointer is misspelt, all other pages are missing.
        """
        for pointer in pointers:
            if self.count and not self._has(pointer):
                repeats.warn(
                    "field_not_found", kind="", of=pointer, field=pointer, url=shown, mend=_IS_IT_THE_ONLY_PAGE
                )


def may_be_cut(answer: requests.Response) -> bool:
    """Whether an answer without a body may be one that broke off: nothing says how long it is."""
    return "content-length" not in answer.headers and not getattr(answer.raw, "chunked", False)
