"""Walking a crawl: every request of it that is not done, wherever it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import msgspec

from millrace_pipeline.queue.frontier.keys import CrawlKeys
from millrace_pipeline.queue.frontier.request import number_of
from millrace_pipeline.queue.replies import pairs
from millrace_pipeline.queue.session import Session
from millrace_pipeline.redis.lots import in_lots

PAGE = 500


def every_request(session: Session, crawl: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield where each request is (ready, in flight, delayed, dead), its number and its JSON.

    One that moves meanwhile may come twice, or not at all; nothing is held up.
    """
    keys = CrawlKeys(session.keys, crawl)
    for where, name in (("in flight", keys.leases), ("delayed", keys.delayed), ("ready", keys.waiting)):
        cursor: bytes | int = 0
        while True:
            ((cursor, flat),) = session.ask(("ZSCAN", name, cursor, "COUNT", PAGE))
            yield from _texts(session, keys, where, [number_of(place) for place in pairs(flat)])
            if int(cursor) == 0:
                break
    (dead,) = session.ask(("HGETALL", keys.dead))
    found = [number_of(msgspec.json.decode(why)["place"].encode()) for why in pairs(dead).values()]
    for at in range(0, len(found), PAGE):
        yield from _texts(session, keys, "dead", found[at : at + PAGE])


def _texts(session: Session, keys: CrawlKeys, where: str, numbers: list[str]) -> Iterator[tuple[str, str, bytes]]:
    if numbers:
        texts = chain(*session.ask(*in_lots(("HMGET", keys.requests), numbers)))
        for number, text in zip(numbers, texts, strict=True):
            if text is not None:
                yield where, number.lstrip("0"), text
