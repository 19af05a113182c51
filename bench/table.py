"""The table of what came out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.rounds import Outcome


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """A line a figure. What misses its goal is shown as such; it fails nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    table.add_column("what")
    table.add_column("beside")
    for name in ("ours", "peer", "median", "min – max", "goal", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for outcome in outcomes:
        row, figure = outcome.row, outcome.figure
        what = f"{outcome.what}, {figure.name}" if figure.name else outcome.what
        unit = "×" if outcome.peer else f" {figure.goal.unit}"
        low, high = min(outcome.values), max(outcome.values)
        table.add_row(
            row.number,
            what,
            outcome.peer_name,
            f"{short(middle(outcome.ours))} {figure.unit}",
            f"{short(middle(outcome.peer))} {figure.unit}" if outcome.peer else "",
            f"{short(outcome.median)}{unit}",
            f"{short(low)} – {short(high)}" if len(outcome.values) > 1 else "",
            str(figure.goal),
            "[green]✓[/green]" if outcome.met else "[red]✗ missed[/red]",
        )
    console.print(table)


def middle(values: Sequence[float]) -> float:
    """The median, the lower of two where there is no middle."""
    return sorted(values)[(len(values) - 1) // 2]


def short(value: float) -> str:
    """Three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
