"""Web session: the one way in which Millrace speaks HTTP. What it knows is what its flow says, and nothing else.

Nothing comes from a ~/.netrc, from variables such as HTTPS_PROXY and REQUESTS_CA_BUNDLE, or from a cookie that a server
once set. A URL goes out as it is written: `requests` and `urllib3` would write parts of it in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

from millrace_pipeline.cafile import CaFileOption
from millrace_pipeline.deadline import DeadlineAdapter
from millrace_pipeline.proxy import ENVIRONMENT, ProxyOption
from millrace_pipeline.web import keep_urls_out_of_logs

AS_WRITTEN = "!#$%&'()*+,/:;=?@[]~"
"""What goes out as it is written, beside letters and digits. Anything else can't stand in a URL, and is encoded."""

Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


@cache
def own_version() -> str:
    """Return Millrace's version, for User-Agent. It is read from a file: once in a process, not for each source."""
    return version("millrace")


class SessionOptions(ProxyOption, CaFileOption):
    """The options of whatever makes a connection by HTTP."""


class WebSession(requests.Session):
    """Sends requests of which it says all: with no auth, cookie, proxy or certificate that its caller doesn't name.

    `headers` and `answer` are how long an answer's headers, and all of it, may take, in seconds. Redirects are left to
    the caller: requests would first read the redirect's body, however long that is.
    """

    def __init__(
        self, *, headers: float, answer: float | None, proxy: str | None = None, ca_file: Path | None = None
    ) -> None:
        keep_urls_out_of_logs()
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self.verify = str(ca_file) if ca_file else True
        self.headers = CaseInsensitiveDict(
            {"User-Agent": f"Millrace/{own_version()}", "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        )
        self._proxy = proxy
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(headers=headers, answer=answer))

    def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | bytes],
        timeout: tuple[float, float],
        body: bytes | None = None,
        sign: Sign | None = None,
    ) -> requests.Response:
        """Send a request; return the answer, its body not read yet. `sign` has the last word on what is sent.

        Raises what `requests` and `urllib3` raise, with the URL in their words: show `why_no_answer`.
        """
        prepared = self.prepared(method, url, headers, body)
        if sign is not None:
            prepared = sign(prepared)
        prepared.headers = _Headers(prepared.headers.items(), target=_target(prepared.url or ""))
        return self.send(
            prepared,
            timeout=timeout,
            stream=True,
            allow_redirects=False,
            proxies=self.proxies_to(url),
            verify=self.verify,
        )

    def prepared(
        self, method: str, url: str, headers: Mapping[str, str | bytes], body: bytes | None = None
    ) -> requests.PreparedRequest:
        """Return a request as it would be sent."""
        named = {name.lower() for name in (*headers, *self.headers)}
        auth = _as_it_is if "authorization" in named else None  # what is said there goes before a user in the URL
        prepared = self.prepare_request(requests.Request(method, url, headers=dict(headers), data=body, auth=auth))
        prepared.url = _as_written(prepared.url or "", url)
        return prepared

    def proxies_to(self, url: str) -> dict[str, str]:
        """Return the proxies to this URL, as requests wants them."""
        if self._proxy == ENVIRONMENT:
            return get_environ_proxies(url)
        return {"http": self._proxy, "https": self._proxy} if self._proxy else {}

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Return none: redirects are the caller's."""
        return

    def close(self) -> None:
        """Close the connections now: to drop a pool leaves that to the garbage collector."""
        for adapter in self.adapters.values():
            close_connections(adapter)


def close_connections(adapter: Any) -> None:
    """Close the connections of an adapter, those that are in use too."""
    if isinstance(adapter, HTTPAdapter):
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            pools = manager.pools
            for key in pools.keys():  # noqa: SIM118 - its keys are no iteration
                if (pool := pools.get(key)) is not None:
                    pool.close()
    adapter.close()


class _Headers(CaseInsensitiveDict[Any]):
    """Headers that know the target of their request as it is written: our connections send that (see deadline.py)."""

    def __init__(self, headers: Any, *, target: str) -> None:
        super().__init__(headers)
        self.target = target

    def copy(self) -> _Headers:
        return _Headers(self.items(), target=self.target)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _as_written(prepared: str, url: str) -> str:
    """The prepared URL (its scheme and host are checked and in lower case) with path and query as they are written."""
    parts = urlsplit(prepared)
    base = url.partition("#")[0]
    path = base[base.index("//") + 2 :] if "//" in base else ""
    cut = min((at for at in (path.find("/"), path.find("?")) if at >= 0), default=len(path))
    written = quote(path[cut:], safe=AS_WRITTEN)
    return f"{parts.scheme}://{parts.netloc}{written if written.startswith('/') else '/' + written}"


def _target(url: str) -> str:
    """What stands behind the host."""
    rest = url.partition("#")[0].split("//", 1)[-1]
    cut = rest.find("/")
    return rest[cut:] if cut >= 0 else "/"
