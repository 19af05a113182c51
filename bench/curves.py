"""The picture of the cost model: measured points, and the fitted curves through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from bench.model import Model

PANEL = (430, 250)
GAP = 40
MARGIN = (64, 56)
"""Left of a panel, and above it."""

STYLE = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif }
  text { font-size: 12px; fill: #64748b }
  .card { fill: #f8fafc } .title { font-size: 14px; font-weight: 600; fill: #0f172a } .end { text-anchor: end }
  .mid { text-anchor: middle } .grid { stroke: #e2e8f0; fill: none } .axis { stroke: #94a3b8; fill: none }
  .line { fill: none; stroke-width: 2 } .dot { stroke-width: 0 }
  .c0 { stroke: #0284c7; fill: #0284c7 } .c1 { stroke: #7c3aed; fill: #7c3aed } .c2 { stroke: #d97706; fill: #d97706 }
  text.c0, text.c1, text.c2 { stroke: none; font-weight: 600 } path.line { fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #94a3b8 } .card { fill: #0f172a } .title { fill: #e2e8f0 } .grid { stroke: #1e293b }
    .axis { stroke: #475569 } .c0 { stroke: #38bdf8; fill: #38bdf8 } .c1 { stroke: #a78bfa; fill: #a78bfa }
    .c2 { stroke: #fbbf24; fill: #fbbf24 }
  }
"""


@dataclass(frozen=True)
class Series:
    """Points of one colour, and a curve where there is a model; too many points are a line alone."""

    name: str
    points: Sequence[tuple[float, float]]
    curve: Callable[[float], float] | None = None

    @property
    def dots(self) -> Sequence[tuple[float, float]]:
        return self.points if len(self.points) < 40 else ()


@dataclass(frozen=True)
class Panel:
    """One diagram. An axis is logarithmic unless it is said to be linear; a linear y begins at 0."""

    title: str
    x_name: str
    series: Sequence[Series]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    linear_x: bool = False
    linear_y: bool = False


def draw(made: Mapping[str, Any]) -> str:
    """The SVG of what `bench.scale` measured."""
    panels = [
        _by_batch("µs of Redis' core a record (publish, claim, ack)", made["redis"], made["model"]["redis"]),
        _by_batch("µs of a consumer's core a record (claim, write, ack)", made["consumer"], made["model"]["consumer"]),
        _flat("µs of Redis' core for 500 records (claim, ack, push)", "records waiting", {"": made["depth"]}),
        _flat(
            "µs of Redis' core a record, by consumers and by flows",
            "consumers of a list, or flows of a consumer",
            {"consumers": made["consumers"], "flows": made["flows"]},
        ),
    ]
    return svg(panels, "What a record costs")


def svg(panels: Sequence[Panel], title: str) -> str:
    """The panels, two in a row."""
    width = 2 * (PANEL[0] + MARGIN[0]) + GAP
    rows = -(-len(panels) // 2)
    height = rows * (PANEL[1] + MARGIN[1] + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" width="{width}" height="{height}" rx="12"/>',
    ]
    for number, panel in enumerate(panels):
        left = MARGIN[0] + (number % 2) * (PANEL[0] + MARGIN[0])
        top = MARGIN[1] + (number // 2) * (PANEL[1] + MARGIN[1] + GAP)
        parts.append(f'<g transform="translate({left} {top})">')
        parts += _panel(panel)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _by_batch(title: str, points: Iterable[Sequence[float]], coefficients: Mapping[str, float]) -> Panel:
    model = Model(**coefficients)
    found = [tuple(point) for point in points]
    series = [
        Series(
            _bytes(size),
            [(batch, micros) for batch, of_size, micros in found if of_size == size],
            lambda batch, size=size: model.micros(batch, size),  # type: ignore[misc]
        )
        for size in sorted({size for _, size, _ in found}, reverse=True)
    ]
    batches = [batch for batch, _, _ in found]
    return Panel(title, "records in a batch", series, (min(batches), max(batches)), _decades(m for _, _, m in found))


def _flat(title: str, x_name: str, named: Mapping[str, Sequence[Sequence[float]]]) -> Panel:
    series = [Series(name, [(x, y) for x, y in points]) for name, points in named.items()]
    xs = [x for one in series for x, _ in one.points]
    top = max(y for one in series for _, y in one.points)
    return Panel(title, x_name, series, (min(xs), max(xs)), (0, top * 1.3), linear_y=True)


def _panel(panel: Panel) -> Iterable[str]:
    width, height = PANEL

    def x(value: float) -> float:
        low, high = panel.x_range
        share = (value - low) / (high - low) if panel.linear_x else math.log(value / low) / math.log(high / low)
        return round(share * width, 1)

    def y(value: float) -> float:
        low, high = panel.y_range
        share = (value - low) / (high - low) if panel.linear_y else math.log(value / low) / math.log(high / low)
        return round(height - share * height, 1)

    yield f'<text class="title" x="0" y="-18">{escape(panel.title)}</text>'
    for tick in _x_ticks(panel):
        yield f'<path class="grid" d="M{x(tick)} 0V{height}"/>'
        yield f'<text class="mid" x="{x(tick)}" y="{height + 17}">{tick:,.0f}</text>'
    for tick in _y_ticks(panel):
        yield f'<path class="grid" d="M0 {y(tick)}H{width}"/>'
        yield f'<text class="end" x="-8" y="{y(tick) + 4}">{tick:,g}</text>'
    yield f'<path class="axis" d="M0 0V{height}H{width}"/>'
    yield f'<text class="end" x="{width}" y="{height + 36}">{escape(panel.x_name)}</text>'
    for colour, series in enumerate(panel.series):
        if series.curve is not None:
            path = "L".join(f"{x(value)} {y(series.curve(value))}" for value in _steps(panel.x_range))
        else:
            path = "L".join(f"{x(one)} {y(other)}" for one, other in series.points)
        yield f'<path class="line c{colour}" d="M{path}"/>'
        yield from (f'<circle class="dot c{colour}" cx="{x(a)}" cy="{y(b)}" r="4"/>' for a, b in series.dots)
        yield f'<text class="c{colour} end" x="{width - 6}" y="{16 + 17 * colour}">{escape(series.name)}</text>'


def _x_ticks(panel: Panel) -> Iterable[float]:
    if panel.linear_x:
        return _round_steps(panel.x_range[1])
    xs = sorted({x for series in panel.series for x, _ in series.points})
    return xs if len(xs) <= 8 else xs[:: len(xs) // 6]


def _y_ticks(panel: Panel) -> Iterable[float]:
    low, high = panel.y_range
    if not panel.linear_y:
        return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    return _round_steps(high)


def _round_steps(high: float) -> Iterable[float]:
    """Some round numbers from 0 up to this one."""
    step: float = 10 ** math.floor(math.log10(high / 2))
    step *= 5 if high / step > 20 else 2 if high / step > 8 else 1
    return [step * number for number in range(int(high / step) + 1)]


def _decades(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return 10.0 ** math.floor(math.log10(min(found))), 10.0 ** math.ceil(math.log10(max(found)))


def _steps(span: tuple[float, float]) -> Iterable[float]:
    low, high = (math.log(edge) for edge in span)
    return [math.exp(low + (high - low) * step / 60) for step in range(61)]


def _bytes(size: float) -> str:
    return f"{size / 1000:g} kB" if size >= 1000 else f"{size:g} B"
