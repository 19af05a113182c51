"""`millrace test`: a dry run of records through a flow."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from millrace.cli.completion import flow_names
from millrace.cli.flowsfile import FlowsOption, choose, settings_with
from millrace.cli.status import JsonOption
from millrace_pipeline.envelope import Record, is_envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.moment import timestamp
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.queue import Variant

if TYPE_CHECKING:
    from millrace_consumer.rehearsal import Rehearsal, Rehearsed
    from millrace_producer.entries import Entries
    from millrace_producer.sources.base import Source

app = typer.Typer()

SESSION = "test"

SAID = {
    "delivered": "would be written",
    "filtered": "would be left out: a transform returns nothing for it",
    "delayed": "would be tried again later",
    "dead": "would become a dead letter",
    "variant": "would be set aside on the variant list",
}


@app.command("test", epilog="""Example: `millrace test quotes --record '{"text": "…", "author": "Ann"}'`""")
def dry_run(
    flow: Annotated[str, typer.Argument(help="The flow.", autocompletion=flow_names)],
    record: Annotated[list[str] | None, typer.Option(help="A record, as JSON. May be given several times.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of records, one JSON a line; - is standard input.")] = None,
    flows: FlowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what a flow would make of a record and what its sink would write, without source, Redis or sink.

    What the source's `key` and `time` give is shown. Then it goes through the same validation and transforms as in the
    services. A file sink's output is shown as it would stand in the file, in Parquet with its columns, and under the
    partition that it would be in; of any other sink the records that it would be given.

    Without --record and --file the records come from standard input, a line each. A line that is a whole envelope, as
    `millrace dead show` prints it, is taken as it stands; any other is what a source would yield, or what others would
    push where the source is `external`.

    Exit codes: 0 each record would be written, or left out by a transform; 1 one of them would be set aside; 2 the flow
    is wrong.
    """
    from millrace_consumer import rehearsal
    from millrace_producer.contract import Contract
    from millrace_producer.entries import Entries

    (chosen,) = choose(settings_with(flows), [flow])
    rehearsed = rehearsal.Rehearsal(chosen)
    key = chosen.dedupe.key if chosen.dedupe else None
    entries = Entries(chosen.name, mark=chosen.queue.key, session=SESSION, key=key, contract=Contract.of(chosen))
    found: list[Rehearsed] = []
    source = _source_of(chosen)
    produced = source is None or not source.pushed_by_others
    for text in _records(record or [], file):
        with repeats.heard() as heard:
            if is_envelope(text) or not produced:  # as it would stand on the list
                one = rehearsed.of(text)
            else:
                one = _published(text, source, entries, rehearsed)
        one.notes = [
            _note(event, said) for event, said in heard if one.reason is None or said.get("reason") != one.reason
        ]
        found.append(one)
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        _print(found, *(source.pointers() if source else (None, None)))
    sys.exit(1 if any(one.verdict in ("dead", "variant") for one in found) else 0)


def _published(text: bytes, source: Source | None, entries: Entries, rehearsed: Rehearsal) -> Rehearsed:
    """Return the lot of a record that the source would yield."""
    from millrace_consumer.rehearsal import Rehearsed

    sample = source.sample(text) if source else Record(text)
    entry = entries.make(sample)
    if entry.dead is not None:
        one = Rehearsed("dead", entry.dead.reason, [])
    elif entry.variant:
        one = Rehearsed("variant", Variant(entry.line).reason, [])
    else:
        one = rehearsed.of(entry.line)
    if isinstance(sample, Record):
        one.key = None if entry.id.startswith(f"{SESSION}-") or not entry.id else entry.id
        one.time = timestamp(sample.time) if sample.time else None
    return one


def _note(event: str, said: dict[str, Any]) -> str:
    """Return a warning of the services as one line."""
    return f"{event}: " + "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in said.items() if value)


def _records(given: list[str], file: Path | None) -> Iterator[bytes]:
    if given and file:
        raise ConfigError("--record and --file: expected one of them")
    if given:
        yield from (text.encode(errors="surrogateescape") for text in given)
    elif file is None and sys.stdin.isatty():
        raise ConfigError("no record: add --record '{…}', --file records.jsonl, or pipe some in")
    elif file is None or str(file) == "-":
        yield from (line for line in map(bytes.strip, sys.stdin.buffer) if line)
    else:
        try:
            with file.open("rb") as lines:
                yield from (line for line in map(bytes.strip, lines) if line)
        except OSError as error:
            raise ConfigError(f"--file {file}: {error.strerror}") from None


def _source_of(flow: Flow) -> Source | None:
    """Return the source, which knows a record's key and time; None where it can't be made here, and why is said."""
    from millrace_producer.sources import SOURCES
    from millrace_producer.sources.base import Source

    try:
        return flow.source.build(SOURCES, Source)
    except ConfigError as error:
        sys.stderr.write(f"without its source, so without a key and a time of its own:\n{error}\n")
        return None


def _named(one: Rehearsed, key: str | None, time: str | None) -> Iterator[str]:
    """Yield what names the record and when it happened, where the flow says so or the record does."""
    if one.key is not None:
        yield f"key: {one.key}"
    elif key:
        yield f"key: none, for there is nothing at {key}"
    if one.time is not None:
        yield f"time: {one.time}"
    elif time:
        yield f"time: when it is published, for there is no time at {time}"


def _print(found: list[Rehearsed], key: str | None, time: str | None) -> None:
    for number, one in enumerate(found, 1):
        reason = f": {one.reason}" if one.reason else ""
        sys.stdout.write(f"record {number} {SAID[one.verdict]}{reason}\n")
        if named := "; ".join(_named(one, key, time)):
            sys.stdout.write(f"  {named}\n")
        for note in one.notes:
            sys.stdout.write(f"  warning: {note}\n")
        for output in one.outputs:
            types = ", ".join(f"{name}: {kind}" for name, kind in (output.columns or {}).items())
            sys.stdout.write(f"  {output.place}\n" + (f"  ({types})\n" if types else ""))
            sys.stdout.write(textwrap.indent(output.text, "    ") + "\n")
