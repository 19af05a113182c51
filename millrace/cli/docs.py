"""`millrace docs`: what is on the lists, for other programs and the people who write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli.flowsfile import FlowsOption, NamesArgument, choose_lists, settings_with
from millrace_pipeline.errors import ConfigError

app = typer.Typer()


@app.command(epilog="Example: `millrace docs --into api`")
def docs(
    names: NamesArgument = None,
    flows: FlowsOption = None,
    into: Annotated[
        Path | None, typer.Option(help="A folder for asyncapi.json and a FLOW.schema.json for each flow.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of one flow's messages.")] = False,
    title: Annotated[str, typer.Option(help="What the document is called.")] = "Flows",
    version: Annotated[str, typer.Option(help="The version of what it describes.")] = "1.0.0",
) -> None:
    """Prints AsyncAPI 3 for the flows: a channel a list, a message a CloudEvents envelope with the model's schema.

    With --schema it is the JSON Schema (2020-12) of one flow's messages, with --into both, as files.

    Exit codes: 0 printed or written; 1 the files can't be written; 2 a flow is wrong.
    """
    from millrace.asyncapi import asyncapi, message_schema

    chosen = {flow.name: flow for flow in choose_lists(settings_with(flows), names or [])}
    if schema:
        if len(chosen) != 1 or into:
            raise ConfigError(f"--schema prints one flow's: name one of {', '.join(chosen)}, without --into")
        sys.stdout.write(_text(message_schema(*chosen.values())))
        return
    document = asyncapi(chosen, title=title, version=version)
    if into is None:
        sys.stdout.write(_text(document))
        return
    files = {"asyncapi.json": document} | {f"{name}.schema.json": message_schema(chosen[name]) for name in chosen}
    try:
        into.mkdir(parents=True, exist_ok=True)
        for name, found in files.items():
            (into / name).write_text(_text(found), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"millrace: can't write to {into}: {error.strerror}\n")
        sys.exit(1)
    sys.stdout.write("".join(f"{into / name}\n" for name in files))


def _text(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
