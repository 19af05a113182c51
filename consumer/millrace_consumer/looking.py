"""Looking: what is looked for in some records of each batch, since in each of them it would cost too much."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from millrace_pipeline.envelope import Envelope
from millrace_pipeline.names import names_twice
from millrace_pipeline.process.repeats import repeats

LOOKED_AT = 20
"""The most records of a batch that are looked at."""

_LAST = "the last of its values counts wherever a record is taken apart; what passes its bytes on has them all"


def some_of(envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
    """Return some records of a batch, from its beginning to its end; of a small one, all."""
    return envelopes[:: len(envelopes) // LOOKED_AT + 1]


def say_names_twice(envelopes: Sequence[Envelope]) -> None:
    """Say once, and count, which names stand twice in an object of records that are to be taken apart."""
    for envelope in some_of(envelopes):
        text = bytes(envelope.data) if isinstance(envelope.data, msgspec.Raw) else b""
        for name in names_twice(text):
            repeats.warn("name_twice", kind="", of=name, name=name, mend=_LAST)
