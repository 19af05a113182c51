"""The tables of sources and sinks in the docs, made of what the classes say of themselves.

`make tables` writes them into the pages, each between two comments; a test fails while a page has others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.flows.reference import load_object
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

ROOT = Path(__file__).resolve().parent.parent
Part = type[Source] | type[Sink]


def tables(sources: Mapping[str, str] = SOURCES, sinks: Mapping[str, str] = SINKS) -> dict[tuple[str, str], str]:
    """What stands in which page between `<!-- name -->` and `<!-- end -->`, by page and name."""
    read = {name: load_object(path) for name, path in sources.items()}
    written = {name: load_object(path) for name, path in sinks.items()}
    return {
        ("README.md", "parts"): _parts(read, written),
        ("docs/flows.md", "sources"): ", ".join(_link("sources", name) for name in read),
        ("docs/flows.md", "sinks"): ", ".join(_link("sinks", name) for name in written),
        ("docs/sinks/README.md", "guarantees"): _guarantees(written),
    }


def filled(page: str, text: str, found: Mapping[tuple[str, str], str]) -> str:
    """The page's text with its tables in it."""
    for (of, name), table in found.items():
        if of == page:
            text, times = re.subn(rf"(<!-- {name} -->).*?(<!-- end -->)", rf"\1{table}\2", text, flags=re.DOTALL)
            if times != 1:
                raise ValueError(f"{page}: expected <!-- {name} --> and <!-- end --> once, found {times}")
    return text


def _parts(sources: Mapping[str, Part], sinks: Mapping[str, Part]) -> str:
    several = ("a list of sinks", "each batch to all of them")
    rows = zip_longest(
        _families("docs/sources", sources), [*_families("docs/sinks", sinks), several], fillvalue=("", "")
    )
    return _table(("from a source", "", "to a sink", ""), ((*source, *sink) for source, sink in rows))


def _families(folder: str, parts: Mapping[str, Part]) -> Iterator[tuple[str, str]]:
    """Those that say the same of themselves together."""
    for about in dict.fromkeys(part.about for part in parts.values()):
        yield ", ".join(_link(folder, name) for name, part in parts.items() if part.about == about), about


def _guarantees(sinks: Mapping[str, type[Sink]]) -> str:
    rows = (
        (_link("", name), sink.guarantee, sink.guaranteed_by, f"`millrace[{sink.extra.name}]`" if sink.extra else "")
        for name, sink in sinks.items()
    )
    return _table(("sink", "guarantee", "by", "needs"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |".replace("  ", " ") for row in (head, *rows)]
    return "\n".join(("", lines[0], "|---" * len(head) + "|", *lines[1:], ""))


def _link(folder: str, name: str) -> str:
    return f"[`{name}`]({folder}{'/' if folder else ''}{name}.md)"


if __name__ == "__main__":
    found = tables()
    for page in {page for page, _ in found}:
        (ROOT / page).write_text(filled(page, (ROOT / page).read_text(), found))
