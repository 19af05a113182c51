"""Row 21: what it costs to trace, and to be able to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.data import KEY, enveloped
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.rows import drain, publish
from millrace_pipeline.mark import traced

A_PUBLISH = 500
"""Records of a publish."""

ONE_IN = 100
SAMPLE = "1%"

Sides = Callable[[Lab, int], contextlib.AbstractContextManager[tuple[Side, Side]]]


def one_percent(events: Iterable[bytes]) -> Iterator[bytes]:
    """The events in envelopes of which every hundredth publish was traced."""
    for number, line in enumerate(enveloped(events)):
        span, rest = divmod(number // A_PUBLISH, ONE_IN)
        parent = f"00-{span + 1:032x}-{span + 1:016x}-01"
        yield line if rest else traced(line, KEY, parent, "millrace=1795000000000000")


class _Receiver(ThreadingHTTPServer):
    """Takes spans, and counts how often."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Receiver)
        self.rfile.read(int(self.headers["content-length"]))
        self.server.taken += 1
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def _receiving(*, surely: bool = True) -> Iterator[str]:
    """The address of a receiver. Raises WrongAnswer where it got nothing, though `surely` something was traced."""
    with _Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver.url
        receiver.shutdown()
        if surely and not receiver.taken:
            raise WrongAnswer("no span was received")


@contextlib.contextmanager
def _consuming(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    verify = drain.verifying(lab, "row 21a", count)
    with _receiving() as url:
        yield (
            drain.ours(lab, count, verify, form=one_percent, traces={"sample": SAMPLE, "endpoint": url}),
            drain.ours(lab, count, verify),
        )


@contextlib.contextmanager
def _producing(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    # A producer draws which of its publishes it traces: of the hundred of a quick run often none.
    with _receiving(surely=not lab.quick) as url:
        yield publish.ours(lab, count, traces={"sample": SAMPLE, "endpoint": url}), publish.ours(lab, count)


@contextlib.contextmanager
def _switched_off(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    verify = drain.verifying(lab, "row 21c", count)
    yield drain.ours(lab, count, verify, traces={"sample": 0}), drain.ours(lab, count, verify)


def _row(number: str, what: str, goal: float, ours: str, sides: Sides) -> Row:
    figures = (Figure("records/s", Goal(goal)),)
    return Row(number, what, ours, "the same, no word of traces", figures, (400_000, 50_000), sides)


ROWS = [
    _row("21a", "consume to JSONL, 1 % traced", 0.97, "millrace consume, 1 % of the publishes traced", _consuming),
    _row("21b", "publish dicts, 1 % traced", 0.97, "millrace produce, traces: {sample: 1%}", _producing),
    _row("21c", "consume to JSONL, traces off", 0.995, "millrace consume, traces: {sample: 0}", _switched_off),
]
