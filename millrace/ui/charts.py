"""Charts: a flow's history as pictures, drawn on the server, with a table of the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor, log10

from millrace.figures import number, rate
from millrace_pipeline.queue.spans import Note, Span, spans

WIDTH, HEIGHT = 560, 116
LEFT, RIGHT, TOP, BOTTOM = 42, 6, 8, 17


@dataclass(frozen=True)
class Range:
    """How far back a chart goes, and how long a span of it is, in seconds; and how its times are written."""

    name: str
    words: str
    seconds: int
    step: int
    clock: str
    tick: int


RANGES = (
    Range("10m", "ten minutes", 600, 10, "%H:%M", 120),
    Range("1h", "an hour", 3600, 30, "%H:%M", 600),
    Range("24h", "a day", 24 * 3600, 900, "%H:%M", 4 * 3600),
    Range("7d", "a week", 7 * 24 * 3600, 2 * 3600, "%d %b", 24 * 3600),
    Range("90d", "90 days", 90 * 24 * 3600, 24 * 3600, "%d %b", 14 * 24 * 3600),
    Range("2y", "two years", 730 * 24 * 3600, 7 * 24 * 3600, "%b %Y", 91 * 24 * 3600),
)


def range_of(name: str) -> Range | None:
    """Return the range of this name; None where there is none."""
    return next((one for one in RANGES if one.name == name), None)


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its CSS class, its points as SVG has them, and what it ends at."""

    name: str
    look: str
    points: str
    last: str
    area: str = ""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what stands there."""

    at: float
    words: str


@dataclass(frozen=True)
class Column:
    """One span, to be pointed at: where it is, and what it was."""

    at: float
    width: float
    words: str


@dataclass(frozen=True)
class Chart:
    """One picture: lines over one time."""

    name: str
    summary: str
    lines: Sequence[Line]
    levels: Sequence[Tick]
    times: Sequence[Tick]
    starts: Sequence[Tick]
    columns: Sequence[Column]


@dataclass(frozen=True)
class History:
    """What is shown of a flow's history: two charts, and the spans that they are made of."""

    range: Range
    charts: Sequence[Chart]
    rows: Sequence[Span]
    total: Span | None


def history_of(notes: Sequence[Note], name: str, starts: Sequence[tuple[float, str]] = ()) -> History:
    """Return the charts of these notes. `starts` are what began, or was changed, and when: seconds since 1970."""
    range = range_of(name) or _fitting(notes)
    if not notes:
        return History(range, (), (), None)
    end = notes[-1].moment
    begin = int(end - range.seconds) // range.step * range.step
    found = [one for one in spans(notes, begin, range.step) if one.start.timestamp() >= begin]
    axis = _Axis(begin, end, range)
    marks = [Tick(axis.x(moment), f"{what}, {_clock(moment)}") for moment, what in starts if moment >= begin]
    charts = (
        _chart(
            "Records a second",
            axis,
            found,
            (
                ("published", "line-in", lambda one: _a_second(one, one.published + one.foreign, end)),
                ("delivered", "line-out", lambda one: _a_second(one, one.delivered, end)),
                ("filtered", "line-aside", lambda one: _a_second(one, one.filtered, end)),
            ),
            marks,
            rate,
        ),
        _chart(
            "Records that wait",
            axis,
            found,
            (
                ("ready and in flight", "line-wait", lambda one: float(one.ready + one.in_flight)),
                ("dead", "line-dead", lambda one: float(one.dead)),
            ),
            marks,
            number,
        ),
    )
    moving = [one for one in found if one.published or one.foreign or one.delivered or one.filtered or one.discarded]
    return History(range, charts, moving[::-1][:60], _total(found))


def _fitting(notes: Sequence[Note]) -> Range:
    """The shortest time that shows all that there is, up to an hour."""
    young = not notes or notes[-1].moment - notes[0].moment < RANGES[0].seconds
    return RANGES[0] if young else RANGES[1]


class _Axis:
    def __init__(self, begin: float, end: float, range: Range) -> None:
        self.begin, self.end, self.range = begin, max(end, begin + 1), range

    def x(self, moment: float) -> float:
        inside = min(1.0, max(0.0, (moment - self.begin) / (self.end - self.begin)))
        return round(LEFT + inside * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> list[Tick]:
        first = int(self.begin // self.range.tick + 1) * self.range.tick
        moments = range_between(first, self.end, self.range.tick)
        room = WIDTH - RIGHT - 16
        return [
            Tick(self.x(at), f"{datetime.fromtimestamp(at, UTC):{self.range.clock}}")
            for at in moments
            if self.x(at) < room
        ]


def range_between(first: int, end: float, step: int) -> range:
    """Return the whole numbers from the first up to the end."""
    return range(first, int(end) + 1, step)


def _chart(
    name: str,
    axis: _Axis,
    found: Sequence[Span],
    kinds: Sequence[tuple[str, str, Callable[[Span], float]]],
    starts: Sequence[Tick],
    words: Callable[[float], str],
) -> Chart:
    values = {kind: [value(one) for one in found] for kind, _, value in kinds}
    top = _round_up(max((one for series in values.values() for one in series), default=0.0))
    floor_y = HEIGHT - BOTTOM

    def y(value: float) -> float:
        return round(floor_y - value / top * (floor_y - TOP), 1)

    lines = []
    for at, (kind, look, _) in enumerate(kinds):
        series = values[kind]
        if at and not any(series):
            continue
        points = []
        for one, value in zip(found, series, strict=True):
            start = one.start.timestamp()
            points += [f"{axis.x(start)},{y(value)}", f"{axis.x(min(start + one.seconds, axis.end))},{y(value)}"]
        area = ""
        if not at and points:
            area = (
                f"{points[0].partition(',')[0]},{floor_y} {' '.join(points)} {points[-1].partition(',')[0]},{floor_y}"
            )
        lines.append(Line(kind, look, " ".join(points), words(series[-1]) if series else "0", area))
    columns = []
    for index, one in enumerate(found):
        start = one.start.timestamp()
        left, right = axis.x(start), axis.x(min(start + one.seconds, axis.end))
        told = ", ".join(f"{words(values[line.name][index])} {line.name}" for line in lines)
        columns.append(Column(left, round(max(0.5, right - left), 1), f"{_clock(start)}: {told}"))
    levels = [Tick(y(top * part), words(top * part)) for part in (0, 0.5, 1)]
    most = {line.name: max(values[line.name], default=0.0) for line in lines}
    summary = f"{name} over {axis.range.words}: " + "; ".join(
        f"{line.name} {line.last} now, {words(most[line.name])} at most" for line in lines
    )
    return Chart(name, summary, lines, levels, axis.ticks(), starts, columns)


def _a_second(one: Span, count: int, end: float) -> float:
    return count / max(1.0, min(one.seconds, end - one.start.timestamp()))


def _round_up(most: float) -> float:
    """The next of 1, 2, 5, 10, … ; 1 where there is nothing."""
    if most <= 1:
        return 1.0
    size = 10.0 ** floor(log10(most))
    return next((step * size for step in (1, 2, 4, 5, 8, 10) if most <= step * size), 10 * size)


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _total(found: Sequence[Span]) -> Span | None:
    if not found:
        return None
    last = found[-1]
    sums = {
        name: sum(getattr(one, name) for one in found)
        for name in ("published", "delivered", "filtered", "foreign", "discarded", "bytes_in", "bytes_out")
    }
    stands = {name: getattr(last, name) for name in ("in_flight", "ready", "dead", "variants")}
    return Span(found[0].start, last.seconds * len(found), **sums, **stands)
