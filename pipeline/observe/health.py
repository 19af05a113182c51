"""/metrics, /livez and /readyz of one service, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from pipeline.errors import ConfigError

Check = Callable[[], str | None]
"""Answers None when all is well, else what is wrong."""


class Health:
    """Serves until closed. `alive` fails when the service is stuck, `ready` when it can't do its work at the moment."""

    def __init__(self, host: str, port: int, *, alive: Check, ready: Check) -> None:
        try:
            self._server = make_server(host, port, self._answer, server_class=WSGIServer, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(f"MILLRACE_HTTP: can't listen on {host}:{port}: {error.strerror}") from error
        self.port = self._server.server_port
        self._checks = {"/livez": alive, "/readyz": ready}
        self._metrics = make_wsgi_app()
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return list(self._metrics(environ, start_response))
        if path not in self._checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /livez, /readyz\n"]
        wrong = self._checks[path]()
        start_response("503 Service Unavailable" if wrong else "200 OK", [("Content-Type", "text/plain")])
        return [f"{wrong or 'ok'}\n".encode()]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a probe every few seconds is not news."""
