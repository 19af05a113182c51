"""States: how a flow does, in a word and a colour, and what its parts are called on the page."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from millrace.bottleneck import badness, wants_somebody
from millrace.equation import verdict_of
from millrace.observing import FlowSeen
from millrace_pipeline.flows.component import Component

Kind = Literal["bad", "slow", "well", "idle", "away"]

PLACES = ("url", "spider", "path", "table", "topic", "key", "queue", "function", "stream", "cron", "every")
"""Options that say where a source reads or a sink writes, and hold no secret once URLs are cut."""


class State(NamedTuple):
    """How a flow does."""

    kind: Kind
    word: str


def state_of(seen: FlowSeen) -> State:
    """Return how a flow does, by the sentence that names what holds it up, and by its books."""
    sentence = seen.bottleneck
    if seen.unreachable:
        return State("away", "no answer")
    if seen.books is None:
        return State("idle", "not seen yet")
    if verdict_of(seen.books).kind in ("loss", "double"):
        return State("bad", "books don't balance")
    if wants_somebody(sentence):
        return State("bad", "stopped" if sentence.startswith("stopped") else sentence.partition(":")[0])
    if sentence.startswith("paused"):
        return State("slow", "paused")
    if seen.troubles:
        return State("bad", "source fails")
    if seen.missing:
        return State("slow", "sink away")
    word = sentence.partition(":")[0]
    if sentence.startswith("idle"):
        return State("idle", "idle")
    if sentence.startswith("source"):
        return State("well", "keeps up")
    return State("slow" if badness(sentence) < badness("source") and "keeps up" not in sentence else "well", word)


def place_of(part: Component) -> str:
    """Return where a source reads or a sink writes, as its options say it; URLs without what may be secret."""
    for name in PLACES:
        value = part.options.get(name)
        if isinstance(value, str) and value:
            return without_secrets(value) if "://" in value else value
    return ""


def without_secrets(url: str) -> str:
    """Return the address without user, password, query and fragment, which may hold some."""
    try:
        parts = urlsplit(url)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    except ValueError:
        return ""
