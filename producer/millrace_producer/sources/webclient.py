"""Web client: requests to one place, with redirects followed as far as the guard lets them.

No message made here holds a header, a query string or a URL's user and password: they are secrets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import structlog
import urllib3
from requests.adapters import BaseAdapter

from millrace_pipeline.auth import Auth
from millrace_pipeline.credentials import Credentials
from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.failure import Failure
from millrace_pipeline.query import with_params
from millrace_pipeline.web import as_utf8, shown, status_text, why_no_answer
from millrace_pipeline.websession import WebSession, close_connections
from millrace_producer.addresses import PrivateAddress, is_private, leads_elsewhere, strips_secrets
from millrace_producer.sources.asking import saying_who_asks
from millrace_producer.sources.guard import GuardedAdapter

SEE_OTHER = 303
REDIRECTS = (301, 302, SEE_OTHER, 307, 308)

Headers = Mapping[str, str | bytes]


class _Session(WebSession):
    """A session of which `guarded` says whether the next request may go to public addresses only."""

    def __init__(self, *, headers: float, answer: float | None, proxy: str | None, ca_file: Path | None) -> None:
        super().__init__(headers=headers, answer=answer, proxy=proxy, ca_file=ca_file)
        self.guarded = False
        self._guard = GuardedAdapter(headers=headers, answer=answer)

    def get_adapter(self, url: str) -> BaseAdapter:
        return self._guard if self.guarded else super().get_adapter(url)

    def close(self) -> None:
        super().close()
        close_connections(self._guard)


@dataclass(frozen=True)
class Question:
    """A request, without what says who asks. A body is meant for home alone."""

    url: str = field(repr=False)
    headers: Headers = field(repr=False)
    method: str = "GET"
    body: bytes | None = field(default=None, repr=False)


class WebClient:
    """Asks for what is at `home`, and where that leads to.

    From when a request is sent, the headers of its answer have to be there within `read_timeout`, and all of it within
    `answer_timeout`, where it has an end. Within the body `read_timeout` bounds each silence.

    Redirects and links to another host or port reach public addresses only, unless `allow_private`; what is named in
    `home_headers`, what `auth` says, and a body are sent to nobody but `home`. Seconds throughout. `name` begins the
    log's events, as in `sse_redirected`.
    """

    def __init__(
        self,
        home: str,
        name: str,
        *,
        home_headers: Collection[str],
        connect_timeout: float,
        read_timeout: float,
        answer_timeout: float | None = None,
        max_redirects: int,
        allow_private: bool,
        auth: Auth | None = None,
        proxy: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.session = _Session(headers=read_timeout, answer=answer_timeout, proxy=proxy, ca_file=ca_file)
        self._credentials = Credentials(
            auth,
            lambda: WebSession(headers=read_timeout, answer=read_timeout, proxy=proxy, ca_file=ca_file),
            timeout=(connect_timeout, read_timeout),
            why=self.why,
        )
        self._home = home
        self._shown = shown(home)
        self._event = f"{name}_redirected"
        self._home_headers = {header.lower() for header in home_headers}
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._max_redirects = max_redirects
        self._allow_private = allow_private
        self._log = structlog.get_logger().bind(url=self._shown)

    def get(self, url: str, headers: Headers) -> requests.Response | Failure:
        """`ask`, to GET this URL."""
        return self.ask(Question(url, headers))

    def ask(self, question: Question) -> requests.Response | Failure:
        """The final answer, its body not read yet; or why there is none now. Close it.

        Raises SourceRefused where trying again won't help: a redirect that is none, too many of them, or one to a
        private address; and where a body would have to go to another host.
        """
        at_home = not self.leads_away(question.url)
        for _ in range(self._max_redirects + 1):
            answer = self._ask(question, at_home=at_home)
            if isinstance(answer, Failure) or answer.status_code not in REDIRECTS:
                return answer
            answer.close()
            target = self._redirect_target(question.url, answer)
            if answer.status_code == SEE_OTHER:
                question = replace(question, method="GET", body=None)
            at_home = at_home and not strips_secrets(question.url, target)
            question = replace(question, url=target)
        raise self.refused(f"more than {self._max_redirects} redirects")

    def leads_away(self, url: str) -> bool:
        """Whether this is another host's, which must not learn what was meant for home."""
        return strips_secrets(self._home, url)

    def refused(self, reason: str) -> SourceRefused:
        """An error that says so of home."""
        return SourceRefused(f"{self._shown}: {reason}")

    def why(self, error: BaseException) -> str:
        """Why a request, or the reading of its answer, failed."""
        return why_no_answer(error, connect_timeout=self._connect_timeout, read_timeout=self._read_timeout)

    def close(self) -> None:
        """Closes all connections."""
        self.session.close()
        self._credentials.close()

    def _ask(self, question: Question, *, at_home: bool) -> requests.Response | Failure:
        return saying_who_asks(lambda: self._ask_as(question, at_home=at_home))

    def _ask_as(self, question: Question, *, at_home: bool) -> requests.Response | Failure:
        asked = self._for_home(question) if at_home else self._for_others(question)
        if isinstance(asked, Failure):
            return asked
        url = asked.url
        self.session.guarded = not self._allow_private and leads_elsewhere(self._home, url)
        if self.session.guarded and is_private(urlsplit(url).hostname or ""):
            raise self._inward(url)
        failure: Failure | None
        try:
            answer = self.session.ask(
                asked.method,
                url,
                headers=asked.headers,
                body=asked.body,
                timeout=(self._connect_timeout, self._read_timeout),
                sign=self._credentials.sign if at_home else None,
            )
            if not (at_home and self._credentials.renewed(answer.status_code)):
                return answer
            answer.close()
            return Failure(f"answered {status_text(answer.status_code)}: asks for a new token")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = Failure(self.why(error))
            # A URL or header that can't be sent is a ValueError, and will be one next time.
            final = isinstance(error, ValueError)
        except PrivateAddress:
            failure = None
        if failure is None:
            raise self._inward(url)
        if final:
            raise self.refused(f"can't be asked for: {failure.reason}")
        return failure

    def _for_home(self, question: Question) -> Question | Failure:
        """What is asked of home, with what says who asks."""
        headers = self._credentials.headers()
        if isinstance(headers, Failure):
            return headers
        return replace(
            question,
            url=with_params(question.url, self._credentials.params),
            headers={**question.headers, **{name: text.encode() for name, text in headers.items()}},
        )

    def _for_others(self, question: Question) -> Question:
        """What may be asked of another host."""
        if question.body is not None:
            raise self.refused("leads to another host, which must not learn what is asked by body")
        headers = {name: value for name, value in question.headers.items() if name.lower() not in self._home_headers}
        return replace(question, headers=headers)

    def _redirect_target(self, url: str, answer: requests.Response) -> str:
        location = answer.headers.get("location", "")
        try:
            target = urljoin(url, as_utf8(location))
            old, new = urlsplit(url), urlsplit(target)
            usable = bool(location and new.hostname and new.scheme in ("http", "https"))
        except ValueError:
            usable = False
        if not usable:
            raise self.refused(f"answered {status_text(answer.status_code)} without a usable Location")
        if (old.scheme, new.scheme) == ("https", "http"):
            raise self.refused("redirects from https to http")
        self._log.info(self._event, to=shown(target))
        return target

    def _inward(self, url: str) -> SourceRefused:
        return self.refused(f"leads to {shown(url)}, a private address: if that is meant, set allow_private")
