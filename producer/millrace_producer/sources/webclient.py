"""Web client: GETs of one place, with redirects followed as far as the guard lets them.

No message made here holds a header, a query string or a URL's user and password: they are secrets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urljoin, urlsplit

import requests
import structlog
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import requote_uri

from millrace_pipeline.deadline import DeadlineAdapter
from millrace_pipeline.errors import SourceRefused
from millrace_pipeline.web import keep_urls_out_of_logs, shown, status_text, why_no_answer
from millrace_producer.addresses import PrivateAddress, is_private, leads_elsewhere
from millrace_producer.sources.guard import GuardedAdapter
from millrace_producer.sources.retry import Failure

REDIRECTS = (301, 302, 303, 307, 308)

Headers = Mapping[str, str | bytes]


class _Session(requests.Session):
    """A session that leaves redirects to us: requests would first read the redirect's body, however long that is.

    `guarded` says whether the next request may go to public addresses only.
    """

    def __init__(self, *, headers: float, answer: float | None) -> None:
        super().__init__()
        self.guarded = False
        self._guard = GuardedAdapter(headers=headers, answer=answer)
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(headers=headers, answer=answer))

    def get_adapter(self, url: str) -> BaseAdapter:
        return self._guard if self.guarded else super().get_adapter(url)

    def close(self) -> None:
        """Closes the connections now: to drop a pool leaves that to the garbage collector."""
        for adapter in (*self.adapters.values(), self._guard):
            if isinstance(adapter, HTTPAdapter):
                pools = adapter.poolmanager.pools
                for key in pools.keys():  # noqa: SIM118 - its keys are no iteration
                    if (pool := pools.get(key)) is not None:
                        pool.close()
            adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


class WebClient:
    """GETs what is at `home`, and where that leads to.

    From when a request is sent, the headers of its answer have to be there within `read_timeout`, and all of it within
    `answer_timeout`, where it has an end. Within the body `read_timeout` bounds each silence.

    Redirects and links to another host or port reach public addresses only, unless `allow_private`; what is named in
    `home_headers` is sent to nobody but `home`. Seconds throughout. `name` begins the log's events, as in
    `sse_redirected`.
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
    ) -> None:
        keep_urls_out_of_logs()
        self.session = _Session(headers=read_timeout, answer=answer_timeout)
        self._home = home
        self._shown = shown(home)
        self._event = f"{name}_redirected"
        self._home_headers = {header.lower() for header in home_headers}
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._max_redirects = max_redirects
        self._allow_private = allow_private
        self._log = structlog.get_logger().bind(url=self._shown)

    def get(self, url: str, headers: Headers, params: Mapping[str, str] | None = None) -> requests.Response | Failure:
        """The final answer, its body not read yet; or why there is none now. Close it.

        Raises SourceRefused where trying again won't help: a redirect that is none, too many of them, or one to a
        private address.
        """
        if self.leads_away(url):
            headers = self._without_secrets(headers)
        for _ in range(self._max_redirects + 1):
            answer = self._get(url, headers, params)
            if isinstance(answer, Failure) or answer.status_code not in REDIRECTS:
                return answer
            answer.close()
            target = self._redirect_target(url, answer)
            if self._leads_away(url, target):
                headers = self._without_secrets(headers)
            url = target
        raise self.refused(f"more than {self._max_redirects} redirects")

    def leads_away(self, url: str) -> bool:
        """Whether this is another host's, which must not learn what was meant for home."""
        return self._leads_away(self._home, url)

    def refused(self, reason: str) -> SourceRefused:
        """An error that says so of home."""
        return SourceRefused(f"{self._shown}: {reason}")

    def why(self, error: BaseException) -> str:
        """Why a request, or the reading of its answer, failed."""
        return why_no_answer(error, connect_timeout=self._connect_timeout, read_timeout=self._read_timeout)

    def close(self) -> None:
        """Closes all connections."""
        self.session.close()

    def _get(self, url: str, headers: Headers, params: Mapping[str, str] | None) -> requests.Response | Failure:
        self.session.guarded = not self._allow_private and leads_elsewhere(self._home, url)
        if self.session.guarded and is_private(urlsplit(url).hostname or ""):
            raise self._inward(url)
        failure: Failure | None
        try:
            return self.session.get(
                url,
                params=params,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(self._connect_timeout, self._read_timeout),
            )
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

    def _leads_away(self, url: str, target: str) -> bool:
        return bool(self.session.should_strip_auth(url, target))  # type: ignore[no-untyped-call]

    def _without_secrets(self, headers: Headers) -> dict[str, str | bytes]:
        return {name: value for name, value in headers.items() if name.lower() not in self._home_headers}

    def _redirect_target(self, url: str, answer: requests.Response) -> str:
        location = answer.headers.get("location", "")
        try:
            # The header comes as Latin-1; what servers put into it is UTF-8.
            target = urljoin(url, requote_uri(location.encode("latin-1", "replace").decode("utf-8", "replace")))
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
