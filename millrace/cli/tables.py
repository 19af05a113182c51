"""Tables: columns for people on a terminal, and for a pipe that must not lose the ends of lines."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

WHOLE_LINES = 100_000
"""Columns of what is no terminal: nothing is cut there, and nothing folded."""


def console_for_all(*, highlight: bool = False, soft_wrap: bool = False) -> Console:
    """Return what prints to standard output: as wide as the terminal, and in a pipe or a file without an end."""
    piped = not sys.stdout.isatty()
    return Console(highlight=highlight, soft_wrap=soft_wrap, width=WHOLE_LINES if piped else None)


def table(*columns: str) -> Table:
    """Return a table without lines, with these columns to begin with."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    return made
