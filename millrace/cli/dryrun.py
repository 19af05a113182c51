"""`millrace test`: a dry run of records through a flow."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from millrace.cli.services import FlowsOption, choose, settings_with
from millrace.cli.status import JsonOption
from millrace_pipeline.envelope import Record, is_envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue import Variant

if TYPE_CHECKING:
    from millrace_consumer.rehearsal import Rehearsed

app = typer.Typer()

SAID = {
    "delivered": "would be written",
    "filtered": "would be left out: a transform returns nothing for it",
    "dead": "would become a dead letter",
    "variant": "would be set aside on the variant list",
}


@app.command("test", epilog="""Example: `millrace test quotes --record '{"text": "…", "author": "Ann"}'`""")
def dry_run(
    flow: Annotated[str, typer.Argument(help="The flow.")],
    record: Annotated[list[str] | None, typer.Option(help="A record, as JSON. May be given several times.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of records, one JSON a line; - is standard input.")] = None,
    flows: FlowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Shows what a flow would make of a record and what its sink would write, without source, Redis or sink.

    The record goes through the same validation and transforms as in the services. A file sink's output is shown as it
    would stand in the file, in Parquet with its columns; of any other sink the records that it would be given.

    Without --record and --file the records come from standard input, a line each. A line that is a whole envelope, as
    `millrace dead show` prints it, is taken as it stands; any other is what a source would yield.

    Exit codes: 0 each record would be written, or left out by a transform; 1 one of them would be set aside; 2 the flow
    is wrong.
    """
    from millrace_consumer import rehearsal
    from millrace_producer.contract import Contract
    from millrace_producer.entries import Entries

    (chosen,) = choose(settings_with(flows), [flow])
    rehearsed = rehearsal.Rehearsal(chosen)
    key = chosen.dedupe.key if chosen.dedupe else None
    entries = Entries(chosen.name, mark=chosen.queue.key, session="test", key=key, contract=Contract.of(chosen))
    found: list[Rehearsed] = []
    for text in _records(record or [], file):
        entry = None if is_envelope(text) else entries.make(Record(text))
        if entry is not None and entry.dead is not None:
            found.append(rehearsal.Rehearsed("dead", entry.dead.reason, []))
        elif entry is not None and entry.variant:
            found.append(rehearsal.Rehearsed("variant", Variant(entry.line).reason, []))
        else:
            found.append(rehearsed.of(text if entry is None else entry.line))
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        _print(found)
    sys.exit(1 if any(one.verdict in ("dead", "variant") for one in found) else 0)


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


def _print(found: list[Rehearsed]) -> None:
    for number, one in enumerate(found, 1):
        reason = f": {one.reason}" if one.reason else ""
        sys.stdout.write(f"record {number} {SAID[one.verdict]}{reason}\n")
        for output in one.outputs:
            types = ", ".join(f"{name}: {kind}" for name, kind in (output.columns or {}).items())
            sys.stdout.write(f"  {output.place}\n" + (f"  ({types})\n" if types else ""))
            sys.stdout.write(textwrap.indent(output.text, "    ") + "\n")
