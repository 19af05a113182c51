"""Query: the parameters of a URL, edited where they stand. All else of the URL stays byte for byte.

To take a query apart and put it together again would change it: a parameter that stands twice becomes one, `?flag`
becomes `?flag=`, and `%E9` another character.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote_plus, unquote_to_bytes

Params: TypeAlias = Mapping[str, str | Sequence[str]]
"""Query parameters by name. One that has several values stands as often."""


def with_params(url: str, params: Params) -> str:
    """The URL with these parameters, each in the place of those of its name, or at the end."""
    if not params:
        return url
    left = {name.encode(): pieces_of(name, value) for name, value in params.items()}
    names = frozenset(left)

    def edit(piece: str) -> list[str]:
        name = name_of(piece)
        return left.pop(name, []) if name in names else [piece]

    base, query, fragment = parts_of(url)
    pieces = [new for piece in _pieces(query) for new in edit(piece)]
    return _joined(base, [*pieces, *(piece for more in left.values() for piece in more)], fragment)


def with_pieces(url: str, edit: Callable[[str], list[str]]) -> str:
    """The URL with each `name=value` of its query as `edit` has it."""
    base, query, fragment = parts_of(url)
    if not query:
        return url
    return _joined(base, [new for piece in _pieces(query) for new in edit(piece)], fragment)


def without_params(url: str, names: Sequence[str]) -> str:
    """The URL without the parameters of these names."""
    gone = {name.encode() for name in names}
    return with_pieces(url, lambda piece: [] if name_of(piece) in gone else [piece]) if gone else url


def pieces_of(name: str, value: str | Sequence[str]) -> list[str]:
    """A parameter as it stands in a query, once for each of its values."""
    values = [value] if isinstance(value, str) else value
    return [f"{quote_plus(name)}={quote_plus(text)}" for text in values]


def pieces_in(url: str) -> list[str]:
    """Each `name=value` of the URL's query, as it stands there."""
    return _pieces(parts_of(url)[1])


def name_of(piece: str) -> bytes:
    """The name of a parameter, decoded."""
    return _decoded(piece.partition("=")[0])


def value_of(piece: str) -> bytes:
    """The value of a parameter, decoded."""
    return _decoded(piece.partition("=")[2])


def parts_of(url: str) -> tuple[str, str, str]:
    """What stands before the query, the query, and what stands behind it. `?` and `#` are neither's."""
    base, _, fragment = url.partition("#")
    base, _, query = base.partition("?")
    return base, query, fragment


def _pieces(query: str) -> list[str]:
    return query.split("&") if query else []


def _joined(base: str, pieces: list[str], fragment: str) -> str:
    return base + ("?" + "&".join(pieces) if pieces else "") + ("#" + fragment if fragment else "")


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))
