"""Top's view: what is chosen to be seen, and the page that it makes of what was seen. It asks nobody anything."""

from __future__ import annotations

import fnmatch
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace.bottleneck import badness, wants_somebody
from millrace.cli.columns import COLUMNS, GAP, Column, columns_for, missed, since
from millrace.equation import crawl_line
from millrace.figures import number, rate
from millrace.observing import ConsumerSeen, FlowSeen

SENTENCE_LINES = 8
"""So many lines at most tell what holds flows up, the worst first."""


@dataclass
class View:
    """What is to be seen: changed by keys while it runs."""

    columns: Sequence[str] | None = None
    sort: str = ""
    """The column to sort by; empty for the order of the file."""
    backwards: bool = False
    pattern: str = "*"
    consumers: bool = True
    first: int = 0
    """The first row that is shown."""
    typing: str | None = None
    """The pattern that is being typed, while one is."""

    def rows(self, flows: Sequence[FlowSeen]) -> list[tuple[FlowSeen, ConsumerSeen | None]]:
        """The rows, a flow and then its consumers, as they are filtered and sorted."""
        chosen = self.chosen(flows)
        if self.sort:
            column = COLUMNS[self.sort]
            chosen.sort(key=column.by, reverse=column.right != self.backwards)
        elif self.backwards:
            chosen.reverse()
        return [(seen, one) for seen in chosen for one in (None, *(seen.consumers if self.consumers else ()))]

    def chosen(self, flows: Sequence[FlowSeen]) -> list[FlowSeen]:
        """The flows whose name the pattern lets through."""
        return [seen for seen in flows if fnmatch.fnmatchcase(seen.name, self.pattern)]

    def page(self, flows: Sequence[FlowSeen], *, where: str, now: datetime, width: int, height: int) -> RenderableType:
        """The whole screen: a head, as many rows as there is room for, and what holds the worst of them up."""
        columns = columns_for(self.columns, width)
        rows = self.rows(flows)
        told = list(self._sentences(flows, width, max(2, min(SENTENCE_LINES, height // 3))))
        room = max(1, height - len(told) - 4)
        self.first = max(0, min(self.first, len(rows) - room))
        shown = rows[self.first : self.first + room]
        head = self._head(flows, where, now)
        foot = self._foot(len(rows), room)
        filler = [Text("")] * max(0, room - len(shown))
        return Group(*head, table_of(columns, shown, width), *filler, *told, foot)

    def _head(self, flows: Sequence[FlowSeen], where: str, now: datetime) -> Iterator[Text]:
        books = [seen.books for seen in flows if seen.books]
        ready, flight = sum(one.ready for one in books), sum(one.in_flight for one in books)
        coming, going = sum(seen.in_a_second for seen in flows), sum(seen.out_a_second for seen in flows)
        away = [seen for seen in flows if seen.unreachable]
        state = f"{len(flows):,} flow{'s' if len(flows) != 1 else ''} at {where}"
        yield _line(f"millrace top  {now:%H:%M:%S}  {state}", "bold")
        if away:
            first = min(away, key=lambda seen: seen.unreachable_since)
            of_them = "" if len(away) == len(flows) else f" for {len(away)} of them"
            reason = " ".join(first.unreachable.split())
            yield _line(
                f"Redis doesn't answer{of_them}, {since(first.unreachable_since)}{reason}; counts are from before",
                "bold red",
            )
        else:
            counts = f"ready {number(ready)}  flight {number(flight)}  in {rate(coming)}/s  out {rate(going)}/s"
            yield _line(counts + f"  dead {number(sum(one.dead for one in books))}", "")

    def _sentences(self, flows: Sequence[FlowSeen], width: int, lines: int) -> Iterator[Text]:
        chosen = [seen for seen in self.chosen(flows) if seen.bottleneck and not seen.unreachable]
        for seen in chosen:
            for one in seen.missing:
                if (lines := lines - 1) < 0:
                    return
                yield _line(" ".join(f"{seen.name}: {since(one.since)}{missed(one)}".split()), "yellow")
        chosen.sort(key=lambda seen: (badness(seen.bottleneck), -(seen.books.lag if seen.books else 0)))
        for seen in chosen:
            style = "red" if wants_somebody(seen.bottleneck) else "yellow" if badness(seen.bottleneck) < 8 else "dim"
            for sentence in sentences_of(seen):
                wrapped = textwrap.wrap(sentence, width, subsequent_indent="  ", max_lines=3, placeholder=" …")
                if (lines := lines - len(wrapped)) < 0:
                    return
                yield from (_line(part, style) for part in wrapped)

    def _foot(self, rows: int, room: int) -> Text:
        if self.typing is not None:
            return _line(f"filter: {self.typing}_   Enter: done, Esc: all", "bold")
        where = f"rows {self.first + 1}–{min(rows, self.first + room)} of {rows}  " if rows > room else ""
        order = f"by {self.sort or 'file'}{' backwards' if self.backwards else ''}"
        chosen = "" if self.pattern == "*" else f", only {self.pattern}"
        keys = "q quit  s/S sort  r turn  c consumers  / filter  ↑↓ scroll"
        return _line(f"{where}{order}{chosen}   {keys}", "dim")


def sentences_of(seen: FlowSeen) -> list[str]:
    """What holds a flow up, and how far its crawl has come, where it crawls; then how each shared crawl stands."""
    crawls = f"; crawls: {seen.crawl_progress}" if seen.crawl_progress else ""
    first = f"{' '.join(seen.bottleneck.split())}{crawls}"
    return [f"{seen.name}: {said}" for said in (first, *map(crawl_line, seen.crawls))]


def table_of(
    columns: Sequence[Column], rows: Sequence[tuple[FlowSeen, ConsumerSeen | None]], width: int | None = None
) -> Table:
    """A row a flow, and a row a consumer below it; what doesn't fit into `width` is cut, and without it nothing is."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), collapse_padding=False)
    spare = 0
    if width is not None:
        spare = width - sum(column.width + GAP for column in columns)
    stretched = next((column.name for column in columns if column.name == "error"), "flow")
    for column in columns:
        wide = max(6, column.width + (spare if column.name == stretched else 0)) if width is not None else None
        table.add_column(
            column.head,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=wide if column.name == stretched else column.width if width is not None else None,
        )
    for seen, one in rows:
        cells = [column.flow(seen) if one is None else column.consumer(one) for column in columns]
        table.add_row(*(Text(_plain(cell)) for cell in cells), style=_style(seen, one))
    return table


def _style(seen: FlowSeen, one: ConsumerSeen | None) -> str:
    if seen.unreachable:
        return "dim"
    if one is not None:
        return "red" if one.trouble or not one.works else "yellow" if one.missing else "dim"
    return "red" if wants_somebody(seen.bottleneck) else ""


def _line(text: str, style: str) -> Text:
    return Text(_plain(text), style=style, no_wrap=True, overflow="ellipsis")


def _plain(text: str) -> str:
    """The text without what would steer a terminal or turn its letters around."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
