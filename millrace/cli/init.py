"""`millrace init`: a flow to begin with, from a template or from a sample of the records."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli.inference import Source, key_in, seen_in
from millrace.cli.templates import TEMPLATES, TEST, YAML
from millrace_pipeline.errors import ConfigError, EnvelopeError
from millrace_pipeline.jsontext import decode_json

app = typer.Typer()

SAMPLED = 10_000
"""So many records of a sample are looked at."""

CELL_CHARACTERS = 2**31 - 1
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
DEFAULT = "files"


@app.command(epilog="Example: `millrace init shop --from orders.jsonl`")
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where to; it is made if it isn't there.")
    ] = Path(),
    template: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"What to begin with: {', '.join(TEMPLATES)}; else {DEFAULT}.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A .jsonl or .csv: read it, with a model that fits it."),
    ] = None,
) -> None:
    """Writes a flow that runs: flows.yaml, flows.py with its model, and a test. Never overwrites anything.

    --from looks at the first 10,000 records of a file and writes the pydantic model that fits them, nullable, nested,
    with dates and mixed types as they are there, and a flow that reads the file.

    Exit codes: 0 written; 2 something of it is there already, or the sample can't be read.
    """
    if sample is not None and template is not None:
        raise ConfigError("--from and --template: expected one of them")
    if sample is not None:
        files = files_from(sample, folder)
    elif (name := template or DEFAULT) in TEMPLATES:
        files = TEMPLATES[name]
    else:
        raise ConfigError(f"--template: no template {name!r}; there are: {', '.join(TEMPLATES)}")
    write_all(folder, files)
    for path in files:
        sys.stdout.write(f"{folder / path}\n")
    into = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    sys.stdout.write(f"\nNext: {into}millrace check && millrace run\n")


def write_all(folder: Path, files: dict[str, str]) -> None:
    """Write these files. Raises ConfigError, before anything is written, where one of them is there."""
    try:
        there = [str(folder / path) for path in files if os.path.lexists(folder / path)]
        if there:
            raise ConfigError(f"there already: {', '.join(there)}. Nothing was written: name another folder")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from None


def files_from(sample: Path, folder: Path) -> dict[str, str]:
    """The files of a flow that reads a file of such records. Raises ConfigError where it can't be read."""
    kind = KINDS.get(sample.suffix.lower())
    if kind is None:
        raise ConfigError(f"--from {sample}: expected a file that ends in {', '.join(KINDS)}")
    try:
        records = list(itertools.islice(_rows(sample) if kind == "csv" else _lines(sample), SAMPLED))
    except OSError as error:
        raise ConfigError(f"--from {sample}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--from {sample}: {error}") from None
    if not records:
        raise ConfigError(f"--from {sample}: there is no record in it: expected JSON objects, one a line, or rows")
    seen = seen_in(records, text=kind == "csv")
    flow = re.sub(r"[^a-z0-9]+", "-", sample.stem.lower()).strip("-") or "records"
    if not flow[0].isalpha():
        flow = f"flow-{flow}"
    source = Source()
    model = source.model(_model_name(flow), seen, f"A record of {_safe(sample.name)}. Others become dead letters.")
    key = key_in(seen)
    path = os.path.relpath(sample.resolve(), folder.resolve())
    named = f", key: {json.dumps('/' + key.replace('~', '~0').replace('/', '~1'), ensure_ascii=False)}" if key else ""
    read = f"    source: {{type: files, path: {json.dumps(_literal(path), ensure_ascii=False)}{named}}}"
    if key:
        read += "\n    dedupe: {window: 1h} # a record that comes again doubles nothing"
    steps = f"    model: flows:{model} # in flows.py\n"
    return {
        "flows.yaml": YAML.format(flow=flow, source=read, key=f"{flow.upper()}-KEY", steps=steps),
        "flows.py": source.text(f"What flows.yaml names: models and transforms. Made from {_safe(sample.name)}."),
        "test_flows.py": TEST.format(flow=flow, records="1000"),
    }


def _lines(sample: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects; lines that are none are said, as they become dead letters."""
    others = 0
    with sample.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not (text := line.strip().removeprefix(b"\xef\xbb\xbf")):
                continue
            try:
                found = decode_json(text)
            except EnvelopeError as error:
                others += 1
                if others == 1:
                    sys.stderr.write(f"{sample}: line {number} will become a dead letter: {error}\n")
                continue
            if isinstance(found, dict):
                yield found
            else:
                others += 1
                if others == 1:
                    sys.stderr.write(f"{sample}: line {number} will become a dead letter: it is no object\n")
    if others > 1:
        sys.stderr.write(f"{sample}: {others - 1:,} more such lines\n")


def _rows(sample: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(CELL_CHARACTERS)  # of the whole process: its default refuses cells above 128 kB
    from millrace_producer.sources.reading.csv import names_of  # only here: no other command pays for it

    delimiter = "\t" if sample.suffix.lower() == ".tsv" else ","
    with sample.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        names = names_of(next(rows, []))
        for row in rows:
            if len(row) == len(names):  # others become dead letters
                yield dict(zip(names, row, strict=True))


def _model_name(flow: str) -> str:
    words = "".join(word.capitalize() for word in flow.split("-"))
    return words[:-1] if words.endswith("s") and not words.endswith("ss") and len(words) > 3 else words


def _literal(path: str) -> str:
    """The path as `files` takes it: what stands for many there, stands for itself."""
    return re.sub(r"([*?\[])", r"[\1]", path).replace("$", "$$")


def _safe(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "?" for letter in text)
