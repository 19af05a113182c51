"""Control: how a `millrace run` is told, by another process of this machine, how many consumers a flow should have.

A socket in `.millrace/` for each flow, so that only who may write in this folder can. Who scales stays connected while
he does. Should he die at a moment without consumers, one is started, since nobody would wake the flow any more.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from millrace.home import FOLDER
from millrace_pipeline.errors import ConfigError, MillraceError

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 5.0
LONGEST_LINE = 1000


class RunGone(MillraceError):
    """The `millrace run` that was scaled has ended."""


def place_of(flow: str) -> Path:
    """Return where the socket of a flow is, below the working directory."""
    return FOLDER / f"run-{flow}.sock"


class Control:
    """What a `millrace run` is told of one flow: `wanted` consumers. Listens from `start` to `close`."""

    def __init__(self, flow: str, consumers: int) -> None:
        self.wanted = consumers
        self._flow = flow
        self._place = place_of(flow)
        self._server: _Listening | None = None

    def start(self) -> None:
        """Listen; where that can't be, nobody can scale this run, and that is said."""
        try:
            self._place.parent.mkdir(exist_ok=True)
            self._server = _Listening(self, self._place)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("run_not_scaled", flow=self._flow, reason=reason, mend="`millrace autoscale` can't reach it")
            return
        listening = self._server.serve_forever
        threading.Thread(target=listening, args=(0.1,), name=f"control {self._flow}", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._place.unlink(missing_ok=True)

    def heard(self, consumers: int) -> None:
        """Take note of the number."""
        if consumers != self.wanted:
            log.info("run_scaled", flow=self._flow, consumers=consumers, before=self.wanted)
            self.wanted = consumers

    def left(self) -> None:
        """Who scaled is gone."""
        if not self.wanted:
            self.heard(1)


class _Listening(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, control: Control, place: Path) -> None:
        self.control = control
        if _answers(place):
            raise OSError(f"another run of it listens at {place}")
        place.unlink(missing_ok=True)  # of one that was killed
        super().__init__(str(place), _Conversation)


class _Conversation(socketserver.StreamRequestHandler):
    server: _Listening

    def handle(self) -> None:
        control, scaled = self.server.control, False
        try:
            while line := self.rfile.readline(LONGEST_LINE):
                asked = json.loads(line)
                if asked.get("consumers") is not None:
                    control.heard(int(asked["consumers"]))
                    scaled = True
                self.wfile.write(json.dumps({"consumers": control.wanted}).encode() + b"\n")
        except (OSError, ValueError, AttributeError, TypeError):
            pass  # whoever it was, he has gone, or says nothing that we know
        if scaled:
            control.left()


@contextlib.contextmanager
def controlled(flows: Sequence[str], consumers: int) -> Iterator[dict[str, Control]]:
    """Listen to who scales these flows, for as long as the block lasts."""
    controls = {flow: Control(flow, consumers) for flow in flows}
    with contextlib.ExitStack() as stack:
        for control in controls.values():
            control.start()
            stack.callback(control.close)
        yield controls


class Steering:
    """The other end: says to a `millrace run` of this folder how many consumers a flow should have; from any thread."""

    def __init__(self, flow: str, connection: socket.socket) -> None:
        self._flow = flow
        self._socket = connection
        self._lines = connection.makefile("rb")
        self._lock = threading.Lock()

    @classmethod
    def of(cls, flow: str) -> Steering:
        """Connect to the run of this flow. Raises ConfigError where there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(place_of(flow)))
        except OSError:
            connection.close()
            raise ConfigError(
                f"no `millrace run` of this folder runs {flow}: start it first, or say --engine compose or swarm"
            ) from None
        return cls(flow, connection)

    def consumers(self, wanted: int | None = None) -> int:
        """Return how many there are, having said how many there should be. Raises RunGone."""
        try:
            with self._lock:
                self._socket.sendall(json.dumps({"consumers": wanted}).encode() + b"\n")
                return int(json.loads(self._lines.readline(LONGEST_LINE))["consumers"])
        except (OSError, ValueError) as error:
            raise RunGone(f"`millrace run` of {self._flow} has ended") from error

    def close(self) -> None:
        """Scale it no more."""
        with contextlib.suppress(OSError):
            self._lines.close()
            self._socket.close()


def _answers(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(place))
        except OSError:
            return False
        return True
