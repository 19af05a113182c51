"""A file that is no YAML: the message names the line that is wrong, not the one where the parser gave up."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import read_document

SOUND = """\
flows:
  a:
    source:
      type: sse
      url: "http://127.0.0.1/a"
    sink: {type: jsonl, path: "data/a"}
    batch:
      records: 5
      linger: 1s
  b:
    source: {type: scrapy, spider: 'quotes'}
    transforms:
      - flows:one
      - flows:two
    sink: {type: stdout}
"""
LINES = SOUND.splitlines()


def said_of(text: str, folder: Path) -> str:
    path = folder / "flows.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_document(path, {})
    return str(caught.value).removeprefix(f"{path}:")


def with_line(number: int, line: str) -> str:
    return "\n".join((*LINES[: number - 1], line, *LINES[number:])) + "\n"


def sound(text: str, folder: Path) -> bool:
    path = folder / "flows.yaml"
    path.write_text(text)
    try:
        read_document(path, {})
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
@pytest.mark.parametrize("spaces", [-1, 1])
def test_a_line_moved_by_a_space_is_named(tmp_path: Path, number: int, spaces: int) -> None:
    line = LINES[number - 1]
    if spaces < 0 and not line.startswith(" "):
        return
    moved = with_line(number, line[1:] if spaces < 0 else f" {line}")
    if sound(moved, tmp_path):
        return  # it is YAML all the same, and what it says is looked at elsewhere
    said = said_of(moved, tmp_path)
    assert said.startswith(f"{number}:"), said
    assert "the indentation of this line is " in said
    assert f" {len(line) - len(line.lstrip())}" in said.partition("expected")[2], "it says how many there were to be"


@pytest.mark.parametrize("number", [n for n, line in enumerate(LINES, 1) if line.count('"') or line.count("'")])
def test_a_line_with_a_quote_that_has_no_end_is_named(tmp_path: Path, number: int) -> None:
    line = LINES[number - 1]
    quote = '"' if '"' in line else "'"
    end = line.rindex(quote)
    said = said_of(with_line(number, line[:end] + line[end + 1 :]), tmp_path)
    column = line.index(quote) + 1
    assert said.startswith(f"{number}:{column}: not YAML: the quote {quote} that begins here has no end"), said


@pytest.mark.parametrize(
    ("number", "line", "expected"),
    [
        (3, "    source", "3:11: not YAML: expected a colon behind the name"),
        (4, "      type:sse", "4:11: not YAML: expected a blank behind the colon"),
        (6, '    sink: {type: jsonl, path: "data/a"', "6:11: not YAML: the { here has no end"),
    ],
)
def test_other_slips_are_named_in_their_own_line(tmp_path: Path, number: int, line: str, expected: str) -> None:
    assert said_of(with_line(number, line), tmp_path).startswith(expected)


def test_a_file_with_two_slips_still_gets_a_message(tmp_path: Path) -> None:
    said = said_of(SOUND.replace('"data/a"', '"data/a').replace("    batch", "   batch"), tmp_path)
    assert "not YAML: " in said


def test_what_an_editor_saved_by_the_megabyte_is_not_tried_line_by_line(tmp_path: Path) -> None:
    said = said_of("# a comment of some length\n" * 10_000 + "flows:\n  a:\n   b: 1\n    c: 2\n", tmp_path)
    assert said.startswith("10004:6: not YAML: mapping values are not allowed here")
