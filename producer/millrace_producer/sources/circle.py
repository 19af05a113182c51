"""Circle: pages that come again, so that an API which never says that it is over isn't read for ever."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.base import DeadLetter

MOST_REMEMBERED = 100_000
"""A circle of more pages than that is noticed after another time round."""


class Circle:
    """The pages of one walk through an API, by their tokens and by what they hold."""

    def __init__(self, token: Any) -> None:
        self._tokens = {_digest([encode_json(token)])}
        self._first: bytes | None = None
        self._before: bytes | None = None

    def has_token(self, token: Any) -> bool:
        """Whether a page of this token has been there; from now on it has."""
        digest = _digest([encode_json(token)])
        if digest in self._tokens:
            return True
        if len(self._tokens) >= MOST_REMEMBERED:
            self._tokens.clear()
        self._tokens.add(digest)
        return False

    def repeats(self, records: Iterable[bytes | DeadLetter]) -> bool:
        """Whether this page has the very records of the one before it, or of the first. One without any has not."""
        texts = [record.original if isinstance(record, DeadLetter) else record for record in records]
        if not texts:
            return False
        digest = _digest(texts)
        found = digest in (self._first, self._before)
        self._first, self._before = self._first or digest, digest
        return found


def _digest(texts: Iterable[bytes]) -> bytes:
    digest = blake2b(digest_size=12)
    for text in texts:
        digest.update(b"%d:" % len(text))
        digest.update(text)
    return digest.digest()
