"""Row 8: an event stream, from the server to the list, beside the parser alone on the same stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.data import bare
from bench.lab import Lab, Process
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.rows.publish import published, verify


def _ours(lab: Lab, server: Server, count: int) -> Side:
    """`millrace produce`, as the shipped flow reads Wikimedia: key and time are looked up in each event."""

    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.empty()
            server.forget()
            source = {"type": "sse", "url": server.url, "key": "/meta/id", "time": "/meta/dt"}
            with lab.millrace(folder, "produce", "events", source=source, sink={"type": "stdout"}) as process:
                ended = lab.await_counter("published", count, process)
                process.wait()
            verify(lab, "millrace produce", count, published)
            return (count / (ended - server.began),)

    return run


def _parser(lab: Lab, server: Server, count: int) -> Side:
    def run() -> tuple[float, ...]:
        with lab.folder() as folder:
            server.forget()
            with lab.peer(folder, "parser", server.url, count) as process:
                process.wait()
            seen = (folder / "seen").read_text()
            expected = lab.sum_of(bare, count)
            if seen != f"{expected[0]} {expected[1]}":
                raise WrongAnswer(f"the parser alone: {seen} events and bytes instead of {expected[:2]}")
            return (count / (float((folder / "ended").read_text()) - server.began),)

    return run


class Server:
    """The stream's server, and when it was last asked."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self._began = folder / "began"

    @property
    def began(self) -> float:
        return float(self._began.read_text())

    def forget(self) -> None:
        self._began.unlink(missing_ok=True)


@contextlib.contextmanager
def _sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:
    with lab.folder() as folder, Process(["-m", "bench.stream", str(folder), str(count)], folder, {}) as process:
        server = Server(folder, lab.await_file(folder / "stream", process))
        yield _ours(lab, server, count), _parser(lab, server, count)


ROWS = [
    Row(
        "8",
        "an event stream to the list",
        "millrace produce",
        "the parser alone",
        (Figure("events/s", Goal(0.6)),),
        (100_000, 20_000),
        _sides,
    )
]
