"""Frontiers for tests: a crawl of one's own, and requests with little in them."""

from __future__ import annotations

from typing import Any

from millrace_pipeline.queue import Session
from millrace_pipeline.queue.frontier import Frontier, Politeness, Waiting, print_of
from millrace_pipeline.queue.frontier.request import START


def page(url: str, *, slot: str = "host", priority: int = 0, again: bool = False, delay_ms: int = 0) -> Waiting:
    """A request for this URL; with `again` it is put whether it was seen or not."""
    text = b'{"url":"%b"}' % url.encode()
    return Waiting(slot, text, priority, b"" if again else print_of(url.encode()), delay_ms)


def frontier(session: Session, *, crawl: str = "shared", start: bool = False, **options: Any) -> Frontier:
    """A spider's part in a crawl that is begun; with `start` the request for start() is the first to be claimed."""
    options.setdefault("politeness", Politeness())
    found = Frontier(session, crawl, **options)
    found.begin({"spider": "test"}, [START] if start else [])
    return found
