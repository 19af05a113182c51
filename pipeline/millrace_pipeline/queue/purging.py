"""Purging and requeuing: what a person does with records that wait, and with a batch in flight."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.mark import foreign_among
from millrace_pipeline.queue.changes import LONGEST_NOTE, By, Changing
from millrace_pipeline.queue.pages import Pages
from millrace_pipeline.queue.session import Session

REASON = "purged"
TRIES = 50
"""So often in a row the records may be others by the time that they are to go."""


class NotRequeued(ConfigError):
    """The batch was left alone. The message says why, and the mend."""


def ready_of(session: Session) -> int:
    """Return how many records wait on the list."""
    return sum(session.ask(("LLEN", session.keys.ready), ("LLEN", session.keys.woken)))


def purge(
    session: Session,
    most: int,
    *,
    to_dead: bool,
    note: str = "",
    by: By | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Have at most so many of the oldest records of the list become dead letters, or throw them away; return how many.

    It goes in steps of at most 500 records or some 4 MB: whoever is killed half way has done the half, and the books
    balance after each. Raises ConfigError where consumers take the records first, and QueueError.
    """
    keys = session.keys
    detail = {"to": "dead letters" if to_dead else "away", **({"note": note[:LONGEST_NOTE]} if note else {})}
    changing = Changing(session, "purge", by, detail)
    done, pages, missed = 0, Pages(), 0
    reason = (f"{REASON}: {note[:LONGEST_NOTE]}" if note else REASON) if to_dead else ""
    while done < most:
        count = min(pages.count, most - done)
        (records,) = session.ask(("LRANGE", keys.ready, -count, -1))
        if not records and not ready_of(session):
            break
        session.history.note()
        digest = hashlib.sha1(b"".join(records), usedforsecurity=False).hexdigest()
        step = [max(1, len(records)), digest, foreign_among(records, keys.ready), reason]
        names = [keys.ready, keys.woken, keys.dead, keys.counters, keys.changes]
        (gone,) = session.ask_script("purge", names, [*changing.arguments(), *step])
        if gone:
            missed = 0
            pages.is_last([*map(len, records)])
            done += gone
            progress(done)
        elif (missed := missed + 1) >= TRIES:
            raise ConfigError(
                f"consumers take from {keys.ready} as well, and were first each time; {done:,} records are purged. "
                "Pause them: `millrace pause FLOW --consumers`"
            )
    return done


def requeue(session: Session, batch: str, *, whole: bool = False, force: bool = False, by: By | None = None) -> int:
    """Put the records of a batch in flight on the list again, to be taken next, and return how many.

    With `whole` it stays a batch under its id, which any consumer can take over at once: a sink that names its output
    by the batch then writes nothing twice, however far the one who held it had come. On the list the records get other
    ids; what a sink had of them by then it gets twice. Either way who held it is fenced, and drops it.

    Raises NotRequeued where there is no such batch, or its lease is good and nobody `force`s it; and QueueError.
    """
    keys = session.keys
    (text,) = session.ask(("HGET", keys.claims, batch))
    steps = msgspec.json.decode(text)["steps"] if text else 1
    changing = Changing(session, "requeue", by, {"batch": batch, "whole": whole, **({"forced": True} if force else {})})
    names = [keys.leases, keys.claims, keys.counters, keys.ready, keys.changes, *keys.parts(batch, steps)]
    arguments = [*changing.arguments(), batch, int(whole), int(force)]
    session.history.note()
    ((records, left),) = session.ask_script("requeue", names, arguments)
    if records < 0:
        raise NotRequeued(f"no batch {batch!r} is in flight: `millrace status` names those that are")
    if left:
        held = f"its lease is good for {left / 1000:.1f} s more, so somebody works on it"
        raise NotRequeued(f"batch {batch}: {held}. Wait, or take it all the same with --force")
    return int(records)
