"""A flow's files and tables, against what its books say was delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from millrace_consumer.readback import SHOWN, WHOLE, Found, Readback
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.component import Component
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Books
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

CONTENT = ("content",)
"""Stands for a key that is all that the record holds, which is how the scrapy source names records by itself."""


class SinkCheck:
    """Reads one sink of a flow back and compares. One that can't be read back is not looked at, and `why_not` says so.

    While consumers work, the count is a bracket. All that had been delivered before the reading must be there, apart
    from the batches in flight at that time; and what is there must have been delivered by its end, apart from those in
    flight then. When nothing moves, both are the same number.
    """

    def __init__(self, flow: Flow, sink: Component | None = None, *, allow_repeats: bool = False) -> None:
        """`sink` is the one of several; without it, the first."""
        part = sink or flow.sink.each[0]
        self.flow = flow
        self.name = flow.name if len(flow.sink.each) == 1 else f"{flow.name} → {part.type}"
        self.required = part.required
        self.why_not = ""
        self.found: Found | None = None
        self.missing = 0
        self.surplus = 0
        self._allow_repeats = allow_repeats
        self._delivered = 0
        self._output: Readback | None = None
        built = part.build(SINKS, Sink)
        key = key_of(flow)
        self._named_by_content = key == CONTENT
        try:
            self._output = built.read_back(model=flow.load_model(), key=key if isinstance(key, str) else None)
        except ConfigError as error:
            self.why_not = f"sink {part.type}: {error}"

    def read(self, before: Books, books_after: Callable[[], Books]) -> None:
        """Reads all there is; `before` are the books from before that, `books_after` asks for those from behind it."""
        if self._output is None:
            return
        found = self.found = self._output.read()
        after = books_after()
        self._delivered = after.delivered
        if found.upserts:
            return
        self.missing = max(0, before.delivered - _settled(found, before))
        self.surplus = max(0, _settled(found, after) - after.delivered)

    def identities(self) -> Iterator[str]:
        """What identifies each record; of what is damaged as far as it can be read."""
        return self._output.identities() if self._output else iter(())

    def placed(self, found: Found) -> Iterator[tuple[str, bytes]]:
        """Yield where each record lies and what identifies it, and fill `found`. Raises as `Readback.records`."""
        return self._output.placed(found) if self._output else iter(())

    @property
    def by_output(self) -> str:
        """Return what tells the records in its output apart, as far as that is known before they are read."""
        return self._output.by if self._output else ""

    @property
    def named_by_content(self) -> bool:
        """Return True where a record's key is made of all that it holds."""
        return self._named_by_content

    @property
    def identified(self) -> bool:
        """Whether records are told apart by a name of their own, so that two alike are one record twice."""
        return self.found is not None and (self._named_by_content or self.found.by != WHOLE)

    @property
    def differs(self) -> bool:
        """Whether anything is not as it should be."""
        if self.found is None:
            return False
        doubled = self.found.twice and self.identified and not self._allow_repeats
        too_many = self.surplus and not self.flow.transforms  # they may make several records of one
        return bool((self.missing and self.required) or doubled or too_many or self.found.damaged)

    def told(self) -> Iterator[str]:
        """What there is to say, in lines with rich's colours; the first names the flow and the verdict."""
        if self.found is None:
            yield f"{self.name}: [yellow]not read[/yellow]: {self.why_not}"
            return
        found = self.found
        yield (
            f"{self.name}: {_units(found.files, found.unit)}, "
            f"{found.records:,} records of {self._delivered:,} delivered: "
            + ("; ".join(self._verdicts()) or f"[green]each once[/green] (by {self.by})")
        )
        for repeated in found.repeated:
            places = ", ".join(dict.fromkeys(repeated.files))
            yield f"    {len(repeated.files)} times: {_escaped(repeated.identity)} in {_escaped(places)}"
        if self.missing:
            yield (
                f"    missing from the {found.unit}s: if some were moved away or Redis is another one, "
                "the counts can't agree; else this is loss"
            )
        for what, names in (("damaged", found.damaged), ("not written by a consumer", found.unknown)):
            for name in names[:SHOWN]:
                yield f"    {what}: {_escaped(name)}"
            if len(names) > SHOWN:
                yield f"    … and {len(names) - SHOWN:,} more"
        if found.leftovers:
            yield f"    temporary and hidden, of writers at work or dead: {_units(len(found.leftovers))}"

    @property
    def by(self) -> str:
        """What tells the records apart, for people."""
        if self.found is None:
            return ""
        return "the whole record" if self.found.by == WHOLE else f"its {self.found.by}"

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can say it."""
        if self.found is None:
            return {"read": False, "why_not": self.why_not}
        counts = asdict(self.found)
        counts["batches"] = len(counts.pop("by_batch"))
        return {
            "read": True,
            **counts,
            "missing": self.missing,
            "surplus": self.surplus,
            "identified": self.identified,
            "differs": self.differs,
        }

    def _verdicts(self) -> Iterator[str]:
        assert self.found is not None
        if self.missing:
            yield f"[bold red]{self.missing:,} missing[/bold red]"
        if self.found.twice and not self.identified:
            yield f"[yellow]{self.found.twice:,} equal to another[/yellow] (no key says if that is one record twice)"
        elif self.found.twice and self._allow_repeats:
            yield f"[yellow]{self.found.twice:,} keys again[/yellow]"
        elif self.found.twice:
            yield f"[bold red]{self.found.twice:,} twice[/bold red] (by {self.by})"
        if self.surplus and self.flow.transforms:
            yield f"{self.surplus:,} more than delivered, which transforms may have made"
        elif self.surplus:
            yield f"[bold red]{self.surplus:,} more than delivered[/bold red]"
        if self.found.upserts and not self.found.twice:
            yield f"[green]each key once[/green] (by {self.by}); a later one replaces an earlier, so counts differ"
        if self.found.damaged:
            yield f"[bold red]{_units(len(self.found.damaged))} damaged[/bold red]"


def _settled(found: Found, books: Books) -> int:
    """Records in the files but for those of batches that were in flight: written perhaps, not acked yet."""
    return found.records - sum(found.by_batch[lease.batch] for lease in books.leases)


def key_of(flow: Flow) -> str | tuple[str] | None:
    """The JSON pointer of a record's key in its data, or CONTENT: what dedupe goes by, or the source's own key."""
    if flow.dedupe and flow.dedupe.key:
        return flow.dedupe.key
    try:
        key = getattr(flow.source.build(SOURCES, Source), "key", None)
    except ConfigError:  # a source's secrets needn't be known here
        key = flow.source.options.get("key")
    if flow.source.type == "scrapy" and key in ("content", None):
        return CONTENT
    return key if isinstance(key, str) else None


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _units(number: int, unit: str = "file") -> str:
    return f"1 {unit}" if number == 1 else f"{number:,} {unit}s"
