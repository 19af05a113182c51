"""Auditing: the books, with all that waits looked at record by record.

The counters know a foreign record once it is acked. Until then only a look at what it says tells it from one of ours,
so that neither a foreign record passes for a double, nor makes up for one of ours that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from millrace_pipeline.mark import foreign_among
from millrace_pipeline.queue.books import Books, books_with
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.session import Session

AT_ONCE_RECORDS = 50_000
AT_ONCE_BYTES = 64 * 1024 * 1024
"""As much is read in one transaction, for which Redis does nothing else; more is read in pages."""

PAGE_BYTES = 4 * 1024 * 1024
TRIES = 20
"""So often the batches in flight may be others by the time that their records are asked for."""


class _Steps(msgspec.Struct):
    steps: int


def audit(session: Session) -> Books:
    """The books, with `in_flight` and `foreign_waiting` as the records themselves have it, at one instant.

    Where more waits than can be read at one instant, and it moves while it is read in pages, `unread` says how many
    records waited, and the rest is what the counters say. Raises QueueError.
    """
    books = _at_once(session) if _fits(session) else None
    return books or _in_pages(session)


def _at_once(session: Session) -> Books | None:
    """All of it in one transaction; None where it grew too large meanwhile, or never stood still."""
    keys = session.keys
    (claims,) = session.ask(("HGETALL", keys.claims))
    for _ in range(TRIES):
        lists = _lists(keys, claims)
        books, found = books_with(
            session,
            ("HGETALL", keys.claims),
            *(("LLEN", key) for key in lists),
            *(("LRANGE", key, 0, AT_ONCE_RECORDS - 1) for key in lists),
        )
        claims, lengths, pages = found[0], found[1 : 1 + len(lists)], found[1 + len(lists) :]
        if sum(lengths) > AT_ONCE_RECORDS:
            return None
        if set(_lists(keys, claims)) <= set(lists):
            return _seen(books, lengths, sum(foreign_among(page, keys.ready) for page in pages))
    return None


def _in_pages(session: Session) -> Books:
    """The same by and by: exact where nothing has moved from before until after."""
    keys = session.keys
    before, (claims,) = books_with(session, ("HGETALL", keys.claims))
    lists = _lists(keys, claims)
    foreign = _foreign_on(
        session, lists, still=lambda moving: moving == (before.ready, before.published, before.delivered)
    )
    after, lengths = books_with(session, *(("LLEN", key) for key in lists))
    if foreign is None or _standing(before) != _standing(after):
        return msgspec.structs.replace(after, unread=after.lag)
    return _seen(after, lengths, foreign)


def _foreign_on(session: Session, lists: Iterable[str], *, still: Callable[[tuple[int, ...]], bool]) -> int | None:
    """How many are foreign on these lists; None as soon as something moves."""
    keys = session.keys
    foreign = 0
    for key in lists:
        start, count = 0, 1
        while True:
            page, ready, woken, counts = session.ask(
                ("LRANGE", key, start, start + count - 1),
                ("LLEN", keys.ready),
                ("LLEN", keys.woken),
                ("HMGET", keys.counters, "published", "delivered"),
            )
            if not still((ready + woken, *(int(value or 0) for value in counts))):
                return None
            foreign += foreign_among(page, keys.ready)
            if len(page) < count:
                break
            start += count
            # Twice as many, unless these were large: the first few say little of how large the next are.
            count = max(1, min(2 * count, count * PAGE_BYTES // max(1, sum(map(len, page)))))
    return foreign


def _fits(session: Session) -> bool:
    """True where all that waits may be read at once, as far as the first, middle and last record of each list tell."""
    keys = session.keys
    (claims,) = session.ask(("HGETALL", keys.claims))
    lists = _lists(keys, claims)
    lengths = session.ask(*(("LLEN", key) for key in lists))
    if sum(lengths) > AT_ONCE_RECORDS:
        return False
    places = [(key, at) for key, length in zip(lists, lengths, strict=True) for at in {0, length // 2, -1}]
    sizes = [len(line) for line in session.ask(*(("LINDEX", *place) for place in places)) if line is not None]
    return bool(sum(sizes) * sum(lengths) <= AT_ONCE_BYTES * len(sizes))


def _lists(keys: Keys, claims: Sequence[bytes]) -> list[str]:
    """Every list that a record waits on: ready, or in flight."""
    steps = {
        id.decode(): msgspec.json.decode(text, type=_Steps).steps for id, text in zip(*[iter(claims)] * 2, strict=True)
    }
    return [keys.ready, keys.woken, *(part for id, count in steps.items() for part in keys.parts(id, count))]


def _seen(books: Books, lengths: Sequence[int], foreign: int) -> Books:
    """The books with what the lists hold, the first two of which are what is ready."""
    found = sum(lengths[2:])
    astray = found - sum(lease.records for lease in books.leases)
    return msgspec.structs.replace(
        books, in_flight=found - books.delayed, astray=astray, foreign_waiting=foreign, unread=0
    )


def _standing(books: Books) -> dict[str, Any]:
    """What stays the same while nothing moves."""
    told = msgspec.to_builtins(books)
    leases = [(lease.batch, lease.attempts, lease.records) for lease in books.leases]
    return {
        name: told[name] for name in books.__struct_fields__ if name not in ("oldest_seconds", "leases", "moment")
    } | {"leases": leases}
