"""REST API: one page after the other, asked for with patience."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

import msgspec
import requests
import urllib3

from millrace_pipeline.envelope import decode_json, place_of, resolve
from millrace_pipeline.errors import EnvelopeError, SourceRefused
from millrace_pipeline.web import LONGEST_RETRY_AFTER, retry_after, shown, status_text
from millrace_producer.sources.pagination import OnePage
from millrace_producer.sources.retry import Failure
from millrace_producer.sources.webclient import WebClient

if TYPE_CHECKING:
    from millrace_producer.sources.restoptions import RestOptions

CHUNK_BYTES = 1024 * 1024
READ_TIMEOUTS_AN_ANSWER = 5
MOST_PAGES_KNOWN = 10_000

OF_THE_FLOW = "{flow}"
"""Stands in a position for a query parameter's value that the flow itself gives: it may be a secret."""

_PAGE_IS_GONE = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.UNPROCESSABLE_ENTITY)
_NOT_NOW = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)

_Object = dict[str, msgspec.Raw]
_Array = list[msgspec.Raw]


class Validators(NamedTuple):
    """What a server calls this state of a page: sent back, it answers 304 where nothing has changed."""

    etag: str | None = None
    modified: str | None = None

    def headers(self) -> dict[str, str]:
        """The request headers that ask for anything but this state."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in named.items() if value}


class Page(NamedTuple):
    """`records` as they came, byte for byte; the token of the page after it, or None; whether nothing has changed."""

    records: list[bytes]
    following: Any
    validators: Validators


class PageGone(SourceRefused):
    """The server doesn't know this page (any more)."""


class Api:
    """What a REST source asks, and how. Made for one read of it."""

    def __init__(self, options: RestOptions) -> None:
        self._options = options
        self._auth = options.auth
        self._pagination = options.pagination or OnePage()
        self._shown = shown(options.url)
        self._own = dict(parse_qsl(urlsplit(options.url).query, keep_blank_values=True)) | options.params
        self._headers: dict[str, str | bytes] = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        secret = options.headers | (self._auth.headers() if self._auth else {})
        self._headers |= {"User-Agent": options.user_agent} | {name: text.encode() for name, text in secret.items()}
        self._retry = options.retry(self._shown, "rest_failed")
        self._web = WebClient(
            options.url,
            "rest",
            home_headers=secret,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            answer_timeout=options.answer_timeout or options.read_timeout * READ_TIMEOUTS_AN_ANSWER,
            max_redirects=options.max_redirects,
            allow_private=options.allow_private,
        )
        self._known: dict[str, Page] = {}  # of the round before, by URL
        self._asked: dict[str, Page] = {}  # of this round

    def close(self) -> None:
        """Closes the connections."""
        self._web.close()

    def pages(self, first: Any, params: dict[str, str]) -> Iterator[tuple[Any, Page]]:
        """Every page from this token on, with its token. `params` narrow down what is asked for.

        Each is asked for when the one before has been dealt with. Raises PageGone where the server doesn't know the
        first of them, and what `page` raises.
        """
        token = first
        while True:
            page = self.page(token, params)
            yield token, page
            if page.following is None:
                return
            if page.following == token:
                raise self._web.refused("its next page is the same page again")
            token = page.following

    def page(self, token: Any, params: dict[str, str]) -> Page:
        """One page. Raises SourceUnavailable or SourceRefused as `Retry` and `WebClient` do."""
        url = self._url(token, params)
        while isinstance(page := self._ask(url, token), Failure):
            self._retry.wait_after(page)
        self._retry.reset()
        return page

    def begin(self, known: Validators | None = None) -> None:
        """Another round: a page that hasn't changed since the last has no records now.

        `known` is the state in which the first page was then, where it was all there was.
        """
        self._known, self._asked = self._asked, {}
        if known and any(known):
            self._known[self._url(None, {})] = Page([], None, known)

    def validators(self) -> Validators:
        """Those of this round's first page, where it is all there is."""
        page = self._asked.get(self._url(None, {}))
        return page.validators if page and page.following is None else Validators()

    def _url(self, token: Any, params: dict[str, str]) -> str:
        """Where a page is. Later parameters replace earlier ones of the same name."""
        found = self._pagination.url(token)
        if found is None:
            query = self._own | params | self._pagination.params(token)
            parts = urlsplit(self._options.url)
        else:
            parts = urlsplit(urljoin(self._options.url, found))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
        mine = self._own | (self._auth.params() if self._auth else {})
        query = {name: mine.get(name, "") if value == OF_THE_FLOW else value for name, value in query.items()}
        if self._auth and not self._web.leads_away(urlunsplit(parts)):
            query |= self._auth.params()
        return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))

    def _ask(self, url: str, token: Any) -> Page | Failure:
        known = self._known.get(url)
        headers = self._headers | (known.validators.headers() if known else {})
        answer = self._web.get(url, headers)
        if isinstance(answer, Failure):
            return answer
        with answer:
            if answer.status_code == HTTPStatus.NOT_MODIFIED and known:
                self._asked[url] = known
                return known
            body = self._body(answer) if answer.status_code == HTTPStatus.OK else self._no(answer, token)
        if isinstance(body, Failure):
            return body
        return self._page(url, token, answer, body) if body is not None else Page([], None, Validators())

    def _body(self, answer: requests.Response) -> bytes | Failure:
        """What it says, or why it breaks off."""
        most = self._options.max_response_bytes
        received = bytearray()
        try:
            while chunk := answer.raw.read(min(CHUNK_BYTES, most + 1), decode_content=True):
                received += chunk
                if len(received) > most:
                    break
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            return Failure(self._web.why(error))
        if len(received) > most:
            raise self._web.refused(f"sent more than max_response_bytes, {most}: ask for smaller pages")
        return bytes(received)

    def _no(self, answer: requests.Response, token: Any) -> Failure | None:
        """Why there is no page now; None where that is because there are no more. Raises SourceRefused for a no."""
        status, headers = answer.status_code, answer.headers
        beyond_the_last = self._pagination.counted and token is not None and status == HTTPStatus.NOT_FOUND
        if status == HTTPStatus.NO_CONTENT or beyond_the_last:
            return None
        reason = f"answered {status_text(status)}"
        limited = status == HTTPStatus.FORBIDDEN and (
            headers.get("retry-after") or headers.get("x-ratelimit-remaining") == "0"
        )
        if status >= 500 or status in _NOT_NOW or limited:
            return Failure(reason, _wait(headers))
        if token is not None and status in _PAGE_IS_GONE:
            raise PageGone(f"{self._shown}: {reason} to a page")
        raise self._web.refused(reason)

    def _page(self, url: str, token: Any, answer: requests.Response, body: bytes) -> Page | Failure:
        records = _records(body, self._options.records)
        if isinstance(records, str):
            return Failure(records)
        following = self._pagination.after(token, _Answered(answer, body, records))
        if isinstance(following, str) and self._pagination.url(following):
            following = self._token(urljoin(answer.url, following))
        page = Page(records, following, Validators(answer.headers.get("etag"), answer.headers.get("last-modified")))
        if any(page.validators) and len(self._asked) < MOST_PAGES_KNOWN:
            self._asked[url] = page._replace(records=[])
        return page

    def _token(self, url: str) -> str:
        """The URL of a page as it may stand in a position: without user and password, or what the flow itself says."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
        except ValueError:
            parts, query = urlsplit(""), {}
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._web.refused("says that its next page is at what is no URL")
        if (urlsplit(self._options.url).scheme, parts.scheme) == ("https", "http"):
            raise self._web.refused("says that its next page is at http, and is itself at https")
        secret = self._auth.params() if self._auth else {}
        kept = {
            name: OF_THE_FLOW if name in secret or self._own.get(name) == value else value
            for name, value in query.items()
        }
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(kept), ""))


class _Answered:
    """An answer as pagination sees it."""

    def __init__(self, answer: requests.Response, body: bytes, records: list[bytes]) -> None:
        self.count = len(records)
        self._answer = answer
        self._body = body
        self._records = records

    def look(self, pointer: str) -> Any:
        found = _dig(pointer, self._body)
        return None if found is None else _value(found)

    def look_at_last(self, pointer: str) -> Any:
        return resolve(pointer, _value(self._records[-1])) if self._records else None

    @property
    def next_link(self) -> str | None:
        return self._answer.links.get("next", {}).get("url")


def _records(body: bytes, pointer: str) -> list[bytes] | str:
    """The records of an answer as they stand there, or what is wrong with it."""
    try:
        found = _dig(pointer, body)
        if found is None:
            return f"has nothing at {pointer} in its answer"
        try:
            return [bytes(record) for record in msgspec.json.decode(found, type=_Array | None) or ()]
        except msgspec.ValidationError:
            return [found]  # one record by itself
    except msgspec.DecodeError as error:
        return f"answered what is not JSON: {error}"


def _dig(pointer: str, text: bytes) -> bytes | None:
    """What a JSON pointer finds in a JSON text, as it stands there. Raises DecodeError where it is none."""
    for step in pointer.removeprefix("/").split("/") if pointer else ():
        name = step.replace("~1", "/").replace("~0", "~")
        found: msgspec.Raw | None = None
        if text[:100].lstrip()[:1] == b"[":
            elements = msgspec.json.decode(text, type=_Array)
            found = elements[place] if (place := place_of(name)) < len(elements) else None
        else:
            with contextlib.suppress(msgspec.ValidationError):  # neither a list nor an object
                found = msgspec.json.decode(text, type=_Object).get(name)
        if found is None:
            return None
        text = bytes(found)
    return text


def _value(text: bytes) -> Any:
    try:
        return decode_json(text)
    except EnvelopeError:
        return None


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, as the server says: Retry-After, or the Unix time at which its rate limit starts anew."""
    reset = headers.get("x-ratelimit-reset", "")
    if not headers.get("retry-after") and reset.isascii() and reset.isdigit() and len(reset) == 10:
        return min(max(float(reset) - datetime.now(UTC).timestamp(), 0.0), LONGEST_RETRY_AFTER)
    return retry_after(headers.get("retry-after"))
