"""Serving: the page as a server of its own, until it is told to end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Collection, Iterator

import uvicorn
from starlette.types import ASGIApp

from millrace.ui.watch import Watch
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.listening import family
from millrace_pipeline.process.signals import on_signal

LONGEST_HEADERS = 16 * 1024


def listen(host: str, port: int) -> socket.socket:
    """Listen there; port 0 is any free one. Raises ConfigError."""
    try:
        place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
        server = socket.socket(family(str(place[0])), socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(place)
    except OSError as error:
        mend = "choose another with --port; 0 is any free one" if error.errno else "name an address of this machine"
        raise ConfigError(f"can't listen on {host}:{port}: {error.strerror or error}: {mend}") from None
    return server


def hosts_of(host: str, more: Collection[str]) -> set[str]:
    """Return the names by which the page may be asked for."""
    everywhere = host in ("0.0.0.0", "::", "")  # noqa: S104 - it is told apart, not listened at
    return {"localhost", "127.0.0.1", "::1", *more, *([] if everywhere else [host.lower()])}


class _Server(uvicorn.Server):
    """Ends at a signal as all commands do: with what it has in hand done, and exit code 0."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `stop`: uvicorn would raise them again when all is done."""
        on_signal(lambda _: self.stop(), signal.SIGTERM, signal.SIGINT)
        yield

    def stop(self) -> None:
        """End; at once where it was told so before."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._watch.close()  # streams of events have no end of their own


def serve(app: ASGIApp, watch: Watch, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C comes."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        h11_max_incomplete_event_size=LONGEST_HEADERS,
        timeout_graceful_shutdown=3,
    )
    watch.start()
    try:
        _Server(config, watch).run(sockets=[listening])
    finally:
        watch.close()
