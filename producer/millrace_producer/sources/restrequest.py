"""REST requests: the URL and the body that ask for a page, and the name that a page's URL has in a position."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.query import (
    name_of,
    parts_of,
    pieces_in,
    value_of,
    with_params,
    with_pieces,
)
from millrace_producer.sources.jsonbody import put

if TYPE_CHECKING:
    from millrace_producer.sources.restoptions import RestOptions

OF_THE_FLOW = "%7Bflow%7D"
"""`{flow}` stands in a position for a query parameter's value that the flow itself gives: it may be a secret."""

_OF_THE_FLOW = re.compile(rb"\{flow(?:\.([0-9]{1,4}))?\}")

Asked = Mapping[str, Any]
"""What a page, or what is new, is asked for by: values by a parameter's name, or by a JSON pointer into the body."""


class NotUsable(ValueError):
    """A page's URL can't be asked for. Its text says why."""


class Requests:
    """What a REST source asks, page by page."""

    def __init__(self, options: RestOptions) -> None:
        self._url = options.url
        self._params = options.params
        self._body = options.body
        self._secret = {name.encode() for name in (options.auth.params() if options.auth else {})}
        own: dict[bytes, list[str]] = {}
        for piece in pieces_in(with_params(options.url, options.params)):
            own.setdefault(name_of(piece), []).append(piece)
        self._own = own
        self._upgrade = bool(getattr(options.pagination, "https", False))

    def page(self, asked: Asked) -> tuple[str, bytes | None]:
        """The URL and the body that ask for a page by parameters. Later ones replace earlier ones of the same name."""
        url, params = self._url, {}
        for name, value in asked.items():
            if name.startswith("/"):
                continue
            if (there := "{" + name + "}") in url:
                url = url.replace(there, quote(str(value), safe=""))
            else:
                params[name] = str(value)
        return with_params(url, {**self._params, **params}), self.body(asked)

    def at(self, token: str, asked: Asked) -> tuple[str, bytes | None]:
        """The URL and the body that ask for a page whose URL is its token."""
        url = token if "://" in token[:8] else urljoin(self._url, token)
        return with_pieces(url, self._filled), self.body(asked)

    def body(self, asked: Asked) -> bytes | None:
        """The body, with what is asked for in its place there."""
        inner = {name: value for name, value in asked.items() if name.startswith("/")}
        if self._body is None or isinstance(self._body, str):
            return None if self._body is None else self._body.encode()
        body = copy.deepcopy(self._body) if inner else self._body
        for pointer, value in inner.items():
            put(body, pointer, value)
        return encode_json(body)

    def token(self, url: str) -> str:
        """The URL of a page as it may stand in a position: without user and password, or what the flow itself says.

        Raises NotUsable.
        """
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise NotUsable("says that its next page is at what is no URL")
        home = urlsplit(self._url)
        if (home.scheme, parts.scheme) == ("https", "http"):
            if not self._upgrade:
                raise NotUsable(
                    "says that its next page is at http, and is itself at https: if it stands behind a proxy that "
                    "speaks https for it, set pagination.https"
                )
            same = parts.hostname == home.hostname
            netloc = home.netloc if same else parts.netloc.removesuffix(":80")
            url = f"https://{netloc}{_behind_the_host(url)}"
            parts = urlsplit(url)
        base, query, _ = parts_of(url)
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{_behind_the_host(base)}"
        return with_pieces(f"{base}?{query}" if query else base, self._hidden)

    def _hidden(self, piece: str) -> list[str]:
        name, value = name_of(piece), value_of(piece)
        if name in self._secret:
            return [f"{piece.partition('=')[0]}={OF_THE_FLOW}"]
        for number, own in enumerate(self._own.get(name, ())):
            if value_of(own) == value:
                said = f"{OF_THE_FLOW[:-3]}.{number}%7D" if number else OF_THE_FLOW
                return [f"{piece.partition('=')[0]}={said}"]
        return [piece]

    def _filled(self, piece: str) -> list[str]:
        marked = _OF_THE_FLOW.fullmatch(value_of(piece))
        if marked is None:
            return [piece]
        name, number = name_of(piece), int(marked[1] or 0)
        if name in self._secret:
            return []  # said to the flow's own host, by whoever asks there
        own = self._own.get(name, [])
        return [own[number]] if number < len(own) else []


def _behind_the_host(url: str) -> str:
    rest = url.split("://", 1)[-1]
    cut = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    return rest[cut:]
