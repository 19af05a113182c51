"""Settling: how a reader is done with the records of its batches one after another, and what it remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import LeaseLost
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.queue.claim import Claim
from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.queue.tap import Tap


class Done(msgspec.Struct):
    """The first `records` of a claim that are not settled yet, and what became of them."""

    claim: Claim
    records: int
    delivered: int
    filtered: int = 0
    foreign: int = 0
    dead: Sequence[DeadLetter] = ()
    bytes: int = 0
    """Of these records, as they stood on the list."""


class Settling:
    """What a reader does that takes messages rather than batches. One thread at a time settles."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._settles = 0
        self.tap = Tap(session, session.keys.tap_out)

    def settle(self, done: Sequence[Done], *, name: str, state: Any = None) -> None:
        """Drops these records and moves the counters; with a `state` keeps it under the reader's name. One step.

        A claim of which nothing is left is done; of another the rest stays in our hands. The `lines` of a claim stay as
        they were. Raises LeaseLost where one of the batches is no longer ours, and RecordError where the state can't be
        said in JSON; then nothing was changed.
        """
        for part in done:
            if part.delivered + part.filtered + len(part.dead) != part.records:
                raise ValueError(f"{part.records} records, but {part} accounts for others")
        keys, number = self._session.keys, self._settles + 1
        parts = [keys.parts(part.claim.id, part.claim.steps) for part in done]
        arguments: list[Any] = [number, SESSION_SECONDS, name, b"" if state is None else encode_json(state)]
        for part, lists in zip(done, parts, strict=True):
            arguments += (part.claim.id, part.claim.token, part.records, part.delivered, part.filtered, part.foreign)
            arguments += (part.bytes, len(lists), len(part.dead))
            arguments += (word for letter in part.dead for word in (letter.reason, letter.original))
        self._session.history.note()
        own = [keys.leases, keys.claims, keys.counters, self._session.key, keys.dead, keys.states]
        names, question = [*own, *(key for lists in parts for key in lists)], self.tap.question()
        ours, *heard = self._session.ask_script("settle", names, arguments, *question, may_fail=len(question))
        self.tap.hear(heard)
        if not ours:
            raise LeaseLost("a batch that was to be settled was taken over")
        self._settles = number

    def state(self, name: str) -> Any:
        """What the reader of this name remembered last, or None."""
        text = self._session.ask(("HGET", self._session.keys.states, name))[0]
        return None if text is None else msgspec.json.decode(text)
