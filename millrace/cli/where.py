"""`millrace where`: one record's life, by its key."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from millrace.cli.asked import Asked
from millrace.cli.completion import flow_names
from millrace.cli.exits import FAILED, UNREACHED
from millrace.cli.flowsfile import FlowsOption, choose_list, settings_with
from millrace.cli.status import JsonOption
from millrace.server import without_secrets

if TYPE_CHECKING:
    from millrace.cli.sightings import Life, Sighting

app = typer.Typer()


@app.command(epilog="Example: `millrace where wikipedia 7e4b8c7e-6f0a-4d43-9d5c-1f5f2c0a1b11`")
def where(
    name: Annotated[str, typer.Argument(metavar="FLOW", help="The flow.", autocompletion=flow_names)],
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="What names the record: its key, or its id."),
    ],
    flows: FlowsOption = None,
    no_sink: Annotated[bool, typer.Option("--no-sink", help="Don't read the sinks' files and tables.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tells where the record of a key is: ready, in flight, dead, set aside as a variant, or in which file or table.

    All of the list, of the batches in flight and of the dead letters is looked through, a page at a time, and then what
    the sinks wrote, as `verify --sink` reads it. Nothing is changed. What can't be looked at is said. Of a record that
    waits the transforms tell whether they leave it out. Several keys are looked for in one go.

    Exit codes: 0 each was found, or is known to have been published; 1 one was never seen; 2 the flow is wrong; 4 Redis
    doesn't answer, or a sink doesn't that may have it.
    """
    settings = settings_with(flows)
    flow = choose_list(settings, name)
    asked = Asked.of(settings)
    asked.say_whose([flow])
    from millrace.cli.lives import Lives  # only here: no other command pays for the sinks

    queue = asked.queue(flow)
    try:
        search = Lives(flow, queue, list(dict.fromkeys(keys)), sinks=not no_sink)
        found = search.look()
    finally:
        queue.close()
    if as_json:
        told = {
            "flow": flow.name,
            "redis": without_secrets(asked.server.url),
            "records": found,
            "not_looked_at": search.not_looked_at,
        }
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(told)).decode() + "\n")
    else:
        for line in _lines(found, search.not_looked_at):
            sys.stdout.write(_plain(line) + "\n")
    if any(life.verdict == "never seen" for life in found):
        sys.exit(UNREACHED if search.unreached else FAILED)


def _lines(lives: list[Life], not_looked_at: list[str]) -> Iterator[str]:
    for life in lives:
        yield life.key
        for sighting in life.sightings:
            yield f"  {sighting.told()}"
            if not sighting.exact:
                yield "    it can't be decoded: its bytes hold these words, so it may be another"
            if sighting.becomes:
                yield f"    {_becomes(sighting)}"
        if life.more:
            yield f"  and {life.more:,} more"
        if life.published is not None:
            yield f"  published {life.published:%Y-%m-%d %H:%M:%S} UTC, as `dedupe` remembers"
        if not life.sightings:
            yield f"  {life.verdict}" + (f": {life.because}" if life.because else "")
    for what in not_looked_at:
        yield f"not looked at: {what}"


def _becomes(sighting: Sighting) -> str:
    """Return what the transforms and the model, as they are where this command runs, make of it."""
    again = "put back on the list it would be " if sighting.state == "dead" else "it will be "
    return again + sighting.becomes.replace("filtered", "left out by a transform (filtered)", 1)


def _plain(line: str) -> str:
    """The line with what would steer a terminal, or turn its letters around, as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)
