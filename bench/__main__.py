"""`python -m bench`: runs the rows, prints the table."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import results
from bench.lab import Lab
from bench.plot import draw
from bench.rounds import Outcome, Row, WrongAnswer, play
from bench.rows import ROWS
from bench.server import serving
from bench.table import print_table

LOG_WIDTH = 150
"""Columns of the table where there is no terminal to ask."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all answers were right, however long they took; 1 one was wrong; 2 the arguments are."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    progress = Console(stderr=True)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-bench-", dir=options.scratch)))
        url = stack.enter_context(serving(scratch))
        status = stack.enter_context(progress.status("starting"))
        # A terminal shows what runs in one line that changes; a log needs a line for each row only.
        lab = Lab(url, scratch, rounds=options.rounds, quick=options.quick, say=status.update)
        about = results.machine(lab)
        console.print(
            f"{about['cpus']} × {about['processor']}, Python {about['python']}, {about['server']}, "
            f"{about['events']} events of {about['event_bytes']:,} bytes, {lab.rounds} rounds",
            soft_wrap=True,
        )
        try:
            for row in options.only:
                outcomes += play(row, lab)
                lab.forget()
                if not progress.is_terminal:
                    progress.print(_line(outcomes[-1], time.monotonic() - began), soft_wrap=True, highlight=False)
        except WrongAnswer as wrong:
            status.stop()
            console.print(f"[bold red]wrong answer[/bold red] in row {row.number}, {row.what}:", end=" ")
            console.print(str(wrong), markup=False, soft_wrap=True)
            return 1
        status.stop()
        print_table(outcomes, console)
        missed = sum(not outcome.met for outcome in outcomes)
        console.print(
            f"\n{len(outcomes)} figures, {missed} below their goal; every record counted; "
            f"{time.monotonic() - began:.0f} s"
        )
        report = results.report(lab, outcomes)
        if options.json:
            results.write(options.json, report)
        if options.plot:
            options.plot.write_text(draw(report))
    return 0


def _line(outcome: Outcome, seconds: float) -> str:
    return f"{seconds:5.0f} s  row {outcome.row.number} done: median {outcome.median:.3g}, goal {outcome.figure.goal}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Millrace and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter: two minutes for all rows")
    parser.add_argument("--rounds", type=int, help="how often each side of a row runs (default: 5, quick: 1)")
    parser.add_argument("--only", type=_rows, default=ROWS, metavar="1,3", help="only these rows; 6 means 6a and 6b")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the results there")
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="write the runs' files there (default: TMPDIR)")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def _rows(text: str) -> list[Row]:
    wanted = text.split(",")
    found = [row for row in ROWS if row.number in wanted or row.number.rstrip("abcd") in wanted]
    if missing := {number for number in wanted if not any(row.number.startswith(number) for row in found)}:
        raise argparse.ArgumentTypeError(f"no row {', '.join(sorted(missing))}")
    return found


if __name__ == "__main__":
    sys.exit(main())
