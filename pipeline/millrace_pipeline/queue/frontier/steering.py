"""Steering a crawl: a person pauses it, has it go on, stops it for good, or has Redis forget it."""

from __future__ import annotations

import time

import msgspec

from millrace_pipeline.queue.changes import LONGEST_NOTE, By, Changing
from millrace_pipeline.queue.frontier.frontier import CrawlGone
from millrace_pipeline.queue.frontier.keys import CrawlKeys
from millrace_pipeline.queue.session import Session


def pause_crawl(session: Session, crawl: str, *, note: str = "", by: By | None = None) -> bool:
    """Have no request of it given out any more. Returns False where it was paused already. Raises CrawlGone."""
    changing = Changing(session, "crawl pause", by, {"crawl": crawl})
    told = {"since": int(time.time() * 1000), "by": changing.by, "note": note[:LONGEST_NOTE]}
    return _steer(session, crawl, changing, "paused", msgspec.json.encode(told).decode())


def resume_crawl(session: Session, crawl: str, *, by: By | None = None) -> bool:
    """Have it go on. Returns False where it was not paused. Raises CrawlGone."""
    return _steer(session, crawl, Changing(session, "crawl resume", by, {"crawl": crawl}), "paused", "")


def stop_crawl(session: Session, crawl: str, reason: str, *, by: By | None = None) -> bool:
    """Have all its spiders end, for this reason. Returns False where it was stopped already. Raises CrawlGone."""
    return _steer(session, crawl, Changing(session, "crawl stop", by, {"crawl": crawl}), "stopped", reason)


def restart_crawl(session: Session, crawl: str, *, by: By | None = None) -> bool:
    """Have a stopped crawl go on where it stopped. Returns False where it was not stopped. Raises CrawlGone."""
    return _steer(session, crawl, Changing(session, "crawl restart", by, {"crawl": crawl}), "stopped", "")


def _steer(session: Session, crawl: str, changing: Changing, part: str, why: str) -> bool:
    keys = CrawlKeys(session.keys, crawl)
    (changed,) = session.ask_script(
        "crawl_steer", [keys.crawl, session.keys.changes], [*changing.arguments(), part, why]
    )
    if changed < 0:
        raise CrawlGone(f"there is no crawl {crawl} on the list {session.keys.ready}: it was never begun")
    return bool(changed)
