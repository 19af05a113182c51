"""The picture of the results, for the README: an SVG that reads well on a light page and on a dark one.

python -m bench.plot results.json benchmarks.svg
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from bench.table import short

WIDTH = 940
MARGIN = 24
TRACK = (470, 760)
"""Where the scale begins and ends."""
VALUE, GOAL = 834, WIDTH - MARGIN
"""Where the median and the goal end, to the right of it."""
ROW_HEIGHT = 26

STYLE = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif }
  text { font-size: 13px; fill: #0f172a }
  .card { fill: #f8fafc } .title { font-size: 15px; font-weight: 600 } .value { font-weight: 600 }
  .soft { fill: #64748b } .small { font-size: 11.5px } .end { text-anchor: end } .mid { text-anchor: middle }
  .grid { stroke: #e2e8f0 } .one { stroke: #94a3b8 } .goal { stroke: #475569; stroke-width: 2 }
  .range { stroke-width: 6; stroke-linecap: round; opacity: .35 } .met { stroke: #0284c7; fill: #0284c7 }
  .missed { stroke: #d97706; fill: #d97706 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e2e8f0 } .card { fill: #0f172a } .soft { fill: #94a3b8 } .grid { stroke: #1e293b }
    .one { stroke: #64748b } .goal { stroke: #cbd5e1 } .met { stroke: #38bdf8; fill: #38bdf8 }
    .missed { stroke: #fbbf24; fill: #fbbf24 }
  }
"""


@dataclass(frozen=True)
class Scale:
    """From a ratio to a place on the track."""

    low: float
    high: float
    ticks: Sequence[float]
    by: Callable[[float], float]

    def x(self, value: float) -> float:
        low, high = self.by(self.low), self.by(self.high)
        share = (self.by(min(max(value, self.low), self.high)) - low) / (high - low)
        return round(TRACK[0] + share * (TRACK[1] - TRACK[0]), 1)


FASTER = Scale(0.5, 64, (1, 2, 4, 8, 16, 32), math.log)
SHARE = Scale(0, 1.25, (0, 0.25, 0.5, 0.75, 1), float)
COST = Scale(0, 4, (0, 1, 2, 3), float)


def draw(report: Mapping[str, Any]) -> str:
    """The SVG of a results file."""
    ratios = [row for row in report["rows"] if row["rounds"]["peer"]]
    panels = [
        ("How many times as fast as others", FASTER, [row for row in ratios if _bound(row) >= 1 and _at_least(row)]),
        ("Share of the speed of the bare thing", SHARE, [row for row in ratios if _bound(row) < 1 and _at_least(row)]),
        ("Times as much as the other: less is better", COST, [row for row in ratios if not _at_least(row)]),
    ]
    parts: list[str] = []
    y = MARGIN + 10.0
    for title, scale, rows in panels:
        if rows:
            y = _panel(parts, y, title, scale, rows)
    for line in [*map(_absolute, (row for row in report["rows"] if not row["rounds"]["peer"])), _footer(report)]:
        parts.append(_text(MARGIN, y, line, "soft small"))
        y += 18
    height = round(y + MARGIN - 18)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    told = "; ".join(f"{row['what']}: {short(row['median'])}, goal {_goal(row)}" for row in report["rows"])
    return "\n".join(
        [
            head,
            "<title>Millrace beside its peers</title>",
            f"<desc>{escape(told)}</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="card" width="{WIDTH}" height="{height}" rx="12"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(parts: list[str], y: float, title: str, scale: Scale, rows: Sequence[Mapping[str, Any]]) -> float:
    """Draws one panel at a height; returns where the next may begin."""
    parts.append(_text(MARGIN, y + 6, title, "title"))
    bottom = y + 24 + ROW_HEIGHT * len(rows)
    for tick in scale.ticks:
        x = scale.x(tick)
        parts.append(f'<path class="{"one" if tick == 1 else "grid"}" d="M{x} {y + 16}V{bottom}"/>')
        parts.append(_text(x, y + 8, f"{tick:g}×", "soft small mid"))
    for number, row in enumerate(rows):
        _row(parts, y + 24 + ROW_HEIGHT * (number + 0.5), scale, row)
    return bottom + 30


def _row(parts: list[str], y: float, scale: Scale, row: Mapping[str, Any]) -> None:
    ratios, verdict = row["rounds"]["ratio"], "met" if row["met"] else "missed"
    what = f"{row['what']}, {row['figure']}" if row["figure"] else row["what"]
    parts.append(
        f'<text x="{MARGIN}" y="{y + 4}">{escape(what)} <tspan class="soft small">{escape(row["peer"])}</tspan></text>'
    )
    goal = scale.x(_bound(row))
    parts += [
        f'<path class="range {verdict}" d="M{scale.x(min(ratios))} {y}H{scale.x(max(ratios)) + 0.1}"/>',
        f'<path class="goal" d="M{goal} {y - 8}v16"/>',
        f'<circle class="{verdict}" cx="{scale.x(row["median"])}" cy="{y}" r="5"/>',
        _text(VALUE, y + 4, f"{short(row['median'])}×", "value end"),
        _text(GOAL, y + 4, _goal(row), "soft small end"),
    ]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}" class="{style}">{escape(text)}</text>'


def _absolute(row: Mapping[str, Any]) -> str:
    what = f"{row['what']}, {row['figure']}" if row["figure"] else row["what"]
    return f"{what}: {short(row['median'])} {row['unit']} (goal {_goal(row)})"


def _footer(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    rounds = max(len(row["rounds"]["ours"]) for row in report["rows"])
    return (
        f"Dot: median of {rounds} rounds, side by side; band: smallest to largest; bar: goal. "
        f"{machine['cpus']} cores, Python {machine['python']}, {machine['server']}, "
        f"{machine['events']} events of {machine['event_bytes']:,} bytes."
    )


def _bound(row: Mapping[str, Any]) -> float:
    return float(row["goal"]["bound"])


def _at_least(row: Mapping[str, Any]) -> bool:
    return bool(row["goal"]["at_least"])


def _goal(row: Mapping[str, Any]) -> str:
    return str(row["goal"]["text"])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(json.loads(Path(sys.argv[1]).read_text())))
