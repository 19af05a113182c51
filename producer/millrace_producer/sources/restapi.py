"""REST API: one page after the other, asked for with patience."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests
import urllib3

from millrace_pipeline.errors import SourceUnavailable
from millrace_pipeline.failure import Failure
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.web import is_not_now, shown, status_text, wait_asked_for
from millrace_producer.sources.circle import Circle
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.jsonbody import NotJson
from millrace_producer.sources.pagination import LinkHeader, NoToken, OnePage
from millrace_producer.sources.restanswer import RestAnswer, may_be_cut
from millrace_producer.sources.restbody import NoRecords, RestBody, UnknownCharset, in_utf8
from millrace_producer.sources.restpage import NEVER, Page, PageGone, Validators
from millrace_producer.sources.restrequest import Asked, NotUsable, Requests
from millrace_producer.sources.stamps import answering
from millrace_producer.sources.timetable import now
from millrace_producer.sources.webclient import Question, WebClient

if TYPE_CHECKING:
    from millrace_producer.sources.restoptions import RestOptions

CHUNK_BYTES = 1024 * 1024
READ_TIMEOUTS_AN_ANSWER = 5
MOST_PAGES_KNOWN = 10_000
MOST_EMPTY = 100
"""After so many pages in a row without a record that is said. It is no error: an API may have to look far."""

ACCEPTED = {
    "json": "application/json",
    "jsonl": "application/x-ndjson, application/jsonl, application/json;q=0.5, */*;q=0.1",
    "csv": "text/csv, */*;q=0.1",
}

_IF_THEY_ARE_ALIKE = "; where pages really are alike, set pagination.repeated to allow"
_IF_THEY_ARE_NOT = "; where that means that it is over, set pagination.repeated to end"
_TAKEN_FOR_THE_END = "a page had the very records of another, so it was taken for the end" + _IF_THEY_ARE_ALIKE

_NAMED_FOR_THE_END = "the next page was named as one that was there before, so it was taken for the end" + (
    "; where that is a new page each time, set pagination.repeated to allow"
)

_NO_HEADER = "its next page has another first row than the first, which is no header: expected columns, their names"
_BEYOND_THE_LAST = "so it was taken for the end: `more` or smaller requests show whether it is"
_ALL_EMPTY = f"{MOST_EMPTY} pages in a row have no records, and each says that there is another"
_IS_RECORDS_RIGHT = f"{_ALL_EMPTY}: is `records` right?"
_IS_MORE_RIGHT = f"{_ALL_EMPTY}: is `more` right? Where it is, set pagination.repeated to allow"

_WITH_A_BODY = (200, 201, 203, 206)
_PAGES = (*_WITH_A_BODY, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT)
_PAGE_IS_GONE = frozenset({400, 404, 410, 416, 422})


class Api:
    """What a REST source asks, and how. Made for one read of it."""

    def __init__(self, options: RestOptions) -> None:
        self._options = options
        self._pagination = options.pagination or OnePage()
        self._requests = Requests(options)
        self._shown = shown(options.url)
        self._headers: dict[str, str | bytes] = {"Accept": ACCEPTED[options.format]}
        if options.body is not None and not isinstance(options.body, str):
            self._headers["Content-Type"] = "application/json"
        self._headers["User-Agent"] = options.user_agent
        for name, text in options.headers.items():
            self._headers = {known: said for known, said in self._headers.items() if known.lower() != name.lower()}
            self._headers[name] = text.encode()
        self._key_of = Fields(key=options.key).key_in if options.key else None
        self._retry = options.retry(self._shown, "rest_failed")
        self._web = WebClient(
            options.url,
            "rest",
            home_headers=options.headers,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            answer_timeout=options.answer_timeout or options.read_timeout * READ_TIMEOUTS_AN_ANSWER,
            max_redirects=options.max_redirects,
            allow_private=options.allow_private,
            auth=options.auth,
            proxy=options.proxy,
            ca_file=options.ca_file,
        )
        self._begins_at: Any = None  # the token of the page that this walk began with
        self._names: list[str] = []  # of the columns on the first page
        self._known: dict[str, Page] = {}  # of the round before, by URL
        self._asked: dict[str, Page] = {}  # of this round

    def close(self) -> None:
        """Closes the connections."""
        self._web.close()

    def pages(self, first: Any, asked: Asked) -> Iterator[tuple[Any, Page]]:
        """Every page from this token on, with its token. `asked` narrows down what is asked for.

        Each is asked for when the one before has been dealt with. Raises PageGone where the server doesn't know the
        first of them, SourceRefused where the pages go round in a circle, and what `page` raises.
        """
        token, empty, was_there = first, 0, False
        self._begins_at, self._names = first, []
        circle = Circle(token, self._key_of if self._pagination.counted else None)
        while True:
            try:
                page = self.page(token, asked)
            except PageGone as error:
                if token == first or not self._pagination.counted:
                    raise
                repeats.warn("rest_page_gone", kind=self._shown, reason=str(error), mend=_BEYOND_THE_LAST)
                return
            if circle.repeats(page.records, page.answering) and self._pagination.repeated != "allow":
                if not self._ends_at_a_repeat(page):
                    raise self._web.refused(f"its next page is the same page again{_IF_THEY_ARE_ALIKE}")
                repeats.warn("rest_page_repeated", kind=self._shown, url=self._shown, mend=_TAKEN_FOR_THE_END)
                return
            is_there = page.following is not None and circle.has_token(page.following)
            # A token that stands for one page after another is no place to go on from after a kill.
            yield None if was_there or is_there else token, page
            if page.following is None:
                return
            if is_there and self._ends_at_a_known_token(page):
                return
            was_there = is_there
            empty = 0 if page.records or page.answering == NEVER else empty + 1
            if empty >= MOST_EMPTY:
                repeated = self._pagination.repeated if self._pagination.counted else "allow"
                if repeated not in ("allow", "end"):
                    raise self._web.refused(_IS_MORE_RIGHT)
                repeats.warn("rest_pages_empty", kind=self._shown, url=self._shown, mend=_IS_RECORDS_RIGHT)
                if repeated == "end":
                    return
            token = page.following

    def page(self, token: Any, asked: Asked) -> Page:
        """One page. Raises SourceUnavailable or SourceRefused as `Retry` and `WebClient` do."""
        url, body = self._where(token, asked)
        while isinstance(page := self._ask(url, body, token), Failure):
            self._retry.wait_after(page)
        self._retry.answered()
        return page

    def probe(self) -> str:
        """Ask for the first page once, read its headers, and say what they were. Raises as `page` does."""
        url, body = self._where(None, {})
        answer = self._web.ask(Question(url, self._headers, self._options.method, body))
        if isinstance(answer, Failure):
            raise SourceUnavailable(f"{self._shown}: {answer.reason}")
        with answer:
            if answer.status_code >= HTTPStatus.BAD_REQUEST:
                raise self._web.refused(f"answered {status_text(answer.status_code)}")
            kind = answer.headers.get("content-type", "").partition(";")[0]
            return f"answered {status_text(answer.status_code)}" + (f", {kind}" if kind else "")

    def _ends_at_a_repeat(self, page: Page) -> bool:
        """Whether a page that is there again is the end, or an error. One bare value may well be another."""
        pagination = self._pagination
        if pagination.repeated is not None:
            return pagination.repeated == "end"
        raw = page.records[0]
        is_bare = len(page.records) == 1 and isinstance(raw, bytes) and raw.lstrip()[:1] not in (b"{", b"[")
        return pagination.counted and (not is_bare or self._options.incremental is not None)

    def _ends_at_a_known_token(self, page: Page) -> bool:
        """Return True where a next page that is named as one before is the end. Raises SourceRefused for an error."""
        repeated = self._pagination.repeated
        if repeated == "allow":
            return not page.records
        if repeated != "end":
            raise self._web.refused(
                f"its next page is the same page again, and the pages have no end{_IF_THEY_ARE_NOT}"
            )
        repeats.warn("rest_page_repeated", kind=self._shown, url=self._shown, mend=_NAMED_FOR_THE_END)
        return True

    def begin(self, known: Validators | None = None) -> None:
        """Another round: a page that hasn't changed since the last has no records now.

        `known` is the state in which the first page was then, where it was all there was.
        """
        self._known, self._asked = self._asked, {}
        if known and any(known):
            self._known[self._where(None, {})[0]] = Page([], None, known)

    def end(self) -> None:
        """The round is whole: it works, whether or not there was anything new."""
        self._retry.came_further()

    def validators(self) -> Validators:
        """Those of this round's first page, where it is all there is."""
        page = self._asked.get(self._where(None, {})[0])
        return page.validators if page and page.following is None else Validators()

    def _where(self, token: Any, asked: Asked) -> tuple[str, bytes | None]:
        """The URL of a page, and the body that asks for it."""
        found = self._pagination.url(token)
        if found is None:
            return self._requests.page({**asked, **self._pagination.params(token)})
        return self._requests.at(found, asked)

    def _ask(self, url: str, body: bytes | None, token: Any) -> Page | Failure:
        known = self._known.get(url) if body is None else None
        headers = self._headers | (known.validators.headers() if known else {})
        asked = now()
        answer = self._web.ask(Question(url, headers, self._options.method, body))
        if isinstance(answer, Failure):
            return answer
        with answer:
            if answer.status_code == HTTPStatus.NOT_MODIFIED and known:
                page = self._unchanged(answer, known, token)
                self._asked[url] = page
                return page
            said = self._body(answer) if answer.status_code in _PAGES else self._no(answer, token)
        if isinstance(said, Failure):
            return said
        if said is None:
            return Page([], None, Validators())
        found = self._page(token, answer, said)
        if isinstance(found, Failure):
            return found
        found = found._replace(answering=answering(asked, answer.headers))
        if any(found.validators) and body is None and len(self._asked) < MOST_PAGES_KNOWN:
            self._asked[url] = found._replace(records=[], answering=NEVER)
        return found

    def _unchanged(self, answer: requests.Response, known: Page, token: Any) -> Page:
        """The page that hasn't changed: its records have come, and what its headers say now counts."""
        now = Validators(answer.headers.get("etag"), answer.headers.get("last-modified"))
        page = Page([], known.following, now if any(now) else known.validators)
        if isinstance(self._pagination, LinkHeader) and "link" in answer.headers:
            nothing = RestBody(b"", self._options.format)
            return page._replace(following=self._following(token, answer, nothing))
        return page

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
        if not received.strip() and answer.status_code in _WITH_A_BODY and may_be_cut(answer):
            return Failure("hung up without a word after its headers")
        return bytes(received)

    def _no(self, answer: requests.Response, token: Any) -> Failure | None:
        """Why there is no page now; None where that is because there are no more. Raises SourceRefused for a no."""
        status, headers = answer.status_code, answer.headers
        if self._pagination.counted and token is not None and status == HTTPStatus.NOT_FOUND:
            if not (more := self._pagination.pointers):
                return None  # beyond the last
            if token != self._begins_at:
                return Failure(f"answered {status_text(status)} to a page that is to be there by {more[0]}")
        reason = f"answered {status_text(status)}"
        if is_not_now(status, headers):
            return Failure(reason, wait_asked_for(headers))
        if token is not None and status in _PAGE_IS_GONE:
            raise PageGone(f"{self._shown}: {reason} to a page")
        raise self._web.refused(reason)

    def _page(self, token: Any, answer: requests.Response, said: bytes) -> Page | Failure:
        options = self._options
        why = ""
        try:
            body = RestBody.of(
                in_utf8(said, answer.headers.get("content-type", ""), options.format),
                options.format,
                pointer=options.records,
                map_key=options.map_key,
                csv=options.csv,
            )
        except NoRecords as error:
            return Failure(str(error))
        except UnknownCharset as error:
            why = str(error)
        if why:
            raise self._web.refused(why)
        self._names = names = self._names or body.names
        if 2 * len(set(names) & set(body.names)) < len(body.names):
            raise self._web.refused(_NO_HEADER)
        validators = Validators(answer.headers.get("etag"), answer.headers.get("last-modified"))
        return Page(body.records, self._following(token, answer, body), validators)

    def _following(self, token: Any, answer: requests.Response, body: RestBody) -> Any:
        """The token of the page that follows. Raises SourceRefused for one that can't be asked for."""
        why = ""
        try:
            answered = RestAnswer(answer, body)
            following = self._pagination.after(token, answered)
            if following is None and token is None:
                answered.say_what_is_not_there(self._pagination.pointers, self._shown)
            if isinstance(following, str) and self._pagination.url(following):
                following = self._requests.token(urljoin(answer.url, following))
            return following
        except (NoToken, NotJson, NotUsable) as error:
            why = str(error)
        raise self._web.refused(why)
