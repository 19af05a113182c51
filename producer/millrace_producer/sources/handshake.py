"""Handshake: what a WebSocket is asked for with: who asks, by which proxy, and whom to trust."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from millrace_pipeline.auth import Auth
from millrace_pipeline.credentials import Credentials
from millrace_pipeline.failure import Failure
from millrace_pipeline.query import with_params
from millrace_pipeline.web import why_no_answer
from millrace_pipeline.websession import WebSession
from millrace_producer.sources.asking import saying_who_asks

_OF_HTTP = ("accept", "accept-encoding", "connection")
"""Headers of a prepared request that a handshake has no use for."""


class Handshakes:
    """The handshakes with one host, `seconds` of patience each, by what its flow says and nothing else."""

    def __init__(self, auth: Auth | None, *, proxy: str | None, ca_file: Path | None, seconds: float) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._seconds = seconds
        self._session = self._new_session()  # nothing is sent by it: it knows proxies, and prepares what is signed
        self._credentials = Credentials(
            auth,
            self._new_session,
            timeout=(seconds, seconds),
            why=lambda error: why_no_answer(error, connect_timeout=seconds, read_timeout=seconds),
        )
        self.renewed = self._credentials.renewed

    def question(self, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]] | Failure:
        """The URL and the headers that ask for a connection and say who asks; or why there are none now."""
        return saying_who_asks(lambda: self._question(url, headers))

    def _question(self, url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]] | Failure:
        said = self._credentials.headers()
        if isinstance(said, Failure):
            return said
        url, headers = with_params(url, self._credentials.params), {**headers, **said}
        if self._credentials.sign is None:
            return url, headers
        request = self._credentials.sign(self._session.prepared("GET", as_http(url), headers))
        signed = {name: text.decode() if isinstance(text, bytes) else text for name, text in request.headers.items()}
        return as_websocket(request.url or ""), {name: signed[name] for name in signed if name.lower() not in _OF_HTTP}

    def proxy(self, url: str) -> str | None:
        """The proxy to go by, if there is one."""
        proxies = self._session.proxies_to(as_http(url))
        return proxies.get(urlsplit(as_http(url)).scheme) or proxies.get("all")

    def tls(self, url: str) -> ssl.SSLContext | None:
        """Whom to trust, where TLS is spoken."""
        if urlsplit(url).scheme != "wss":
            return None
        return ssl.create_default_context(cafile=self._ca_file or DEFAULT_CA_BUNDLE_PATH)

    def close(self) -> None:
        """Close the connections that tokens were asked for by."""
        self._credentials.close()

    def _new_session(self) -> WebSession:
        return WebSession(headers=self._seconds, answer=self._seconds, proxy=self._proxy, ca_file=self._ca_file)


def as_http(url: str) -> str:
    """The URL of a WebSocket, in http or https."""
    return "http" + url[2:] if url[:2].lower() == "ws" else url


def as_websocket(url: str) -> str:
    """The URL of a WebSocket, in ws or wss."""
    return "ws" + url[4:] if url[:4].lower() == "http" else url
