"""/metrics, /livez and /readyz of one service, on a port of its own, in the networks that are meant and no others."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.listening import Place, family, is_address, own_addresses

log = structlog.get_logger(__name__)

NAME_SECONDS = 2.0
"""How long a name may take until it stands for an address of ours: a network may give it a moment late."""

Check = Callable[[], str | None]
"""Answers None when all is well, else what is wrong."""

Page = Callable[[str], tuple[str, bytes]]
"""Answers with a status and JSON to what stands behind its prefix in a path."""


def _nothing_to_note() -> str | None:
    return None


class Health:
    """Serves from `start` to `close`. `alive` fails when the service is stuck, `ready` when it can't do its work now.

    Each address is served by a thread of its own, so that nobody who is slow in one network keeps the answer from
    another. Raises ConfigError where it can't listen; a name that stands for no address of ours is only warned of, as
    long as there is another place to listen at.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        alive: Check,
        ready: Check,
        noted: Check = _nothing_to_note,
        registry: CollectorRegistry = REGISTRY,
        pages: Mapping[str, Page] | None = None,
    ) -> None:
        """`noted` is what there is to say though all is well: that a person has paused it; `pages` answer more paths,
        by how these begin."""
        self._places = places
        self._checks = {"/livez": alive, "/readyz": ready}
        self._noted = noted
        self._pages = pages or {}
        self._metrics = make_wsgi_app(registry)
        self._servers: list[WSGIServer] = []

    def start(self) -> None:
        """Listen and serve. Raises ConfigError where it can't; then it listens nowhere."""
        nowhere: list[str] = []
        try:
            for host, port in self._places:
                addresses = [host] if is_address(host) else _soon(host)
                self._servers += [self._listen(address, port) for address in addresses]
                if not addresses:
                    nowhere.append(f"{host} stands for no address of this machine")
            if not self._servers:
                raise ConfigError(f"MILLRACE_HTTP: {'; '.join(nowhere)}: name an address, or a name in a network of it")
        except BaseException:
            for server in self._servers:
                server.server_close()
            raise
        for reason in nowhere:
            log.warning("http_not_there", reason=reason, mend="name an alias of this service in MILLRACE_HTTP")
        for server in self._servers:
            threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the port that was free where none was asked for."""
        pairs = [(str(server.server_address[0]), server.server_port) for server in self._servers]
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs]

    def close(self) -> None:
        """Stops serving."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _listen(self, address: str, port: int) -> WSGIServer:
        kind = type("Server", (_Server,), {"address_family": family(address)})
        try:
            return make_server(address, port, self._answer, server_class=kind, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(f"MILLRACE_HTTP: can't listen on {address}:{port}: {error.strerror}") from error

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return list(self._metrics(environ, start_response))
        for prefix, page in self._pages.items():
            if path.startswith(prefix):
                status, body = page(path.removeprefix(prefix))
                start_response(status, [("Content-Type", "application/json")])
                return [body]
        if path not in self._checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [", ".join(("/metrics", *self._checks, *self._pages)).encode() + b"\n"]
        wrong = self._checks[path]()
        start_response("503 Service Unavailable" if wrong else "200 OK", [("Content-Type", "text/plain")])
        note = None if wrong else self._noted()
        return [f"{wrong or 'ok'}{f', {note}' if note else ''}\n".encode()]


def _soon(name: str) -> list[str]:
    """The addresses of ours that a name stands for, now or in a moment."""
    pause, left = threading.Event(), NAME_SECONDS
    while not (addresses := own_addresses(name)) and left > 0:
        pause.wait(0.2)
        left -= 0.2
    return addresses


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Binds, and looks up no name for the address, which may take long where nobody knows one."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a probe every few seconds is not news."""
