"""Circle: pages that come again, so that an API which never says that it is over isn't read for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from millrace_pipeline.jsontext import encode_json
from millrace_producer.sources.base import DeadLetter
from millrace_producer.sources.restbody import Raw
from millrace_producer.sources.stamps import Answering, alike

MOST_REMEMBERED = 100_000
"""A circle of more pages than that is noticed after another time round."""

MOST_BYTES = 16 * 1024 * 1024
"""The records of a larger page are not kept, so that it is known again only by the letter."""

KeyOf = Callable[[bytes], str | None]


class _Page(NamedTuple):
    """A page that was there."""

    digest: bytes
    texts: list[bytes]
    answering: Answering


class Circle:
    """The pages of one walk through an API, by their tokens and by what they hold.

    `key_of` gives what names a record, where pages of the same names are the same page.
    """

    def __init__(self, token: Any, key_of: KeyOf | None = None) -> None:
        self._tokens = {_digest([encode_json(token)])}
        self._key_of = key_of
        self._names: set[bytes] = set()
        self._first: _Page | None = None
        self._before: _Page | None = None

    def has_token(self, token: Any) -> bool:
        """Whether a page of this token has been there; from now on it has."""
        return _has(self._tokens, _digest([encode_json(token)]))

    def repeats(self, records: Iterable[Raw], answering: Answering) -> bool:
        """Return True for a page that was there before; one without any records was not.

        It was where its records have the names of another's, or are those of the one before it or of the first: by the
        letter, or but for what the server stamps on each answer.
        """
        texts = [record.original if isinstance(record, DeadLetter) else record for record in records]
        if not texts:
            return False
        page = _Page(_digest(texts), texts if sum(map(len, texts)) <= MOST_BYTES else [], answering)
        named = self._named_before(texts)
        found = named or any(_same(page, other) for other in (self._before, self._first) if other is not None)
        self._first, self._before = self._first or page, page
        return found

    def _named_before(self, texts: Sequence[bytes]) -> bool:
        """Return True where another page had just these names. A name that records share names none of them."""
        if self._key_of is None:
            return False
        names = [self._key_of(text) for text in texts]
        if None in names or len(set(names)) < len(names):
            return False
        return _has(self._names, _digest([name.encode() for name in names if name is not None]))


def _same(page: _Page, other: _Page) -> bool:
    if page.digest == other.digest:
        return True
    return alike(page.texts, page.answering, other.texts, other.answering)


def _has(known: set[bytes], digest: bytes) -> bool:
    """Return True for a digest that is known; from now on it is."""
    if digest in known:
        return True
    if len(known) >= MOST_REMEMBERED:
        known.clear()
    known.add(digest)
    return False


def _digest(texts: Iterable[bytes]) -> bytes:
    digest = blake2b(digest_size=12)
    for text in texts:
        digest.update(b"%d:" % len(text))
        digest.update(text)
    return digest.digest()
