"""Row 15: what the books, the leases and the fencing cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bench.data import enveloped
from bench.lab import Lab
from bench.rounds import Figure, Goal, Row, Side
from bench.rows.drain import BATCH, JSONL, ours, verifying


@contextlib.contextmanager
def _sides(lab: Lab, count: int) -> Iterator[tuple[Side, Side]]:

    def stripped() -> tuple[float, ...]:
        with lab.folder() as folder:
            lab.fill(enveloped, count)
            with lab.stripped(folder, count, batch={"records": BATCH}, sink=JSONL) as process:
                lab.await_idle(process)
                began = lab.release()
                ended = float(lab.await_file(folder / "ended", process))
                process.stop()
            verifying(lab, "row 15, stripped", count)(folder)
            return (count / (ended - began),)

    yield ours(lab, count, verifying(lab, "row 15, ours", count)), stripped


ROWS = [
    Row(
        "15",
        "books, leases and fencing",
        "millrace consume",
        "the same without them",
        (Figure("records/s", Goal(0.85)),),
        (200_000, 50_000),
        _sides,
    )
]
