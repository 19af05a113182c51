"""Every mistake in a flows file is named with its line, column, field and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import load

SOUND = "    source: {type: sse, url: http://x/}\n    sink: {type: jsonl, path: data}\n"


def errors(tmp_path: Path, text: str | bytes, **environ: str) -> list[str]:
    """The error's lines, each from its place on."""
    path = tmp_path / "flows.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    return [line.removeprefix(f"{path}:") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("    lease: soon\n", "5:12: flows.a.lease: expected a duration such as 10s, 1m30s, 250ms or 1h"),
        ("    lease: 1:30\n", "5:12: flows.a.lease: expected a duration"),
        ("    lease: -1\n", "5:12: flows.a.lease: expected a duration"),
        ("    lease: .inf\n", "5:12: flows.a.lease: expected a duration"),
        ("    lease: yes\n", "5:12: flows.a.lease: expected a duration"),
        ("    lease: true\n", "5:12: flows.a.lease: expected a duration"),
        ("    lease: 1ms\n", "5:12: flows.a.lease: expected at least 100ms, not '1ms'"),
        ("    lease:\n", "5:11: flows.a.lease: expected a duration"),
        ("    batch: {records: 1000001}\n", "5:22: flows.a.batch.records: expected at most 1000000, not 1000001"),
        ("    contract: freeze\n", "5:15: flows.a.contract: holds records to a model: add `model: module:Class`"),
        ("    contract: thaw\n    model: a:B\n", "5:15: flows.a.contract: expected 'evolve', 'freeze' or 'quarantine'"),
        ("    max_attempts: 0\n", "5:19: flows.a.max_attempts: expected at least 1, not 0"),
        ("    max_attempts: many\n", "5:19: flows.a.max_attempts: expected a whole number, not 'many'"),
        ("    max_attempts: 1.5\n", "5:19: flows.a.max_attempts: expected a whole number, not 1.5"),
        ("    max_atempts: 3\n", "5:5: flows.a.max_atempts: unknown option: did you mean 'max_attempts'?"),
        (
            "    zzz: 3\n",
            "5:5: flows.a.zzz: unknown option: expected source, sink, queue, publish, dedupe, transforms,",
        ),
        ("    name: b\n", "5:5: flows.a.name: unknown option: a flow's name is the key above it"),
        ("    batch: 5\n", "5:12: flows.a.batch: expected a mapping of options, not 5"),
        ("    batch: [1]\n", "5:12: flows.a.batch: expected a mapping of options, not a list"),
        ("    batch: {bytes: 32M}\n", "5:20: flows.a.batch.bytes: expected a size such as 32MiB, 4kB or 512B"),
        ("    batch: {bytes: 0}\n", "5:20: flows.a.batch.bytes: expected at least 1, not 0"),
        ("    batch: {bytes: 1.5}\n", "5:20: flows.a.batch.bytes: expected a size"),
        (
            "    batch:\n      records: 5\n      lingr: 1s\n",
            "7:7: flows.a.batch.lingr: unknown option: did you mean 'linger'?",
        ),
        (
            "    batch: {size: 5}\n",
            "5:13: flows.a.batch.size: unknown option: expected records, bytes, encoded, linger",
        ),
        ("    publish: {records: 0}\n", "5:24: flows.a.publish.records: expected at least 1, not 0"),
        ("    dedupe: {}\n", "5:5: flows.a.dedupe.window: is missing: expected a value"),
        ("    dedupe: {window: 0}\n", "5:22: flows.a.dedupe.window: expected more than 0, not 0"),
        ("    dedupe: {window: 1h, key: /a~b}\n", "5:31: flows.a.dedupe.key: expected a JSON pointer such as /meta/id"),
        ("    queue: {key: a b}\n", "5:18: flows.a.queue.key: expected a name without spaces and control characters"),
        ('    queue: {key: "a\\u0007b"}\n', "5:18: flows.a.queue.key: expected a name without spaces"),
        ('    queue: {key: "a{}b"}\n', "5:18: flows.a.queue.key: expected a name without braces, or with one"),
        ('    queue: {key: "a{b"}\n', "5:18: flows.a.queue.key: expected a name without braces, or with one"),
        ('    queue: {key: "{a}{b}"}\n', "5:18: flows.a.queue.key: expected a name without braces, or with one"),
        ('    queue: {key: ""}\n', "5:18: flows.a.queue.key: expected text of at least 1 character, not ''"),
        ("    queue: {max_ready: 0}\n", "5:24: flows.a.queue.max_ready: expected at least 1, not 0"),
        ("    transforms: flows:f\n", "5:17: flows.a.transforms: expected a list, not 'flows:f'"),
        (
            "    transforms:\n      - a:b\n      - [c]\n",
            "7:9: flows.a.transforms[1]: expected a function, as",
        ),
        (
            "    transforms: [null]\n",
            "5:18: flows.a.transforms[0]: expected a function, as",
        ),
        ("    model: {a: b}\n", "5:12: flows.a.model: expected text, not a mapping"),
    ],
)
def test_a_wrong_option_is_placed_and_said(options: str, expected: str, tmp_path: Path) -> None:
    (found,) = errors(tmp_path, f"flows:\n  a:\n{SOUND}{options}")
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flows:\n  A:\n" + SOUND, "2:3: flows.A: expected a name of small letters"),
        ("flows:\n  -a:\n" + SOUND, "2:3: flows.-a: expected a name of small letters"),
        ("flows:\n  " + "a" * 101 + ":\n" + SOUND, f"2:3: flows.{'a' * 101}: expected a name of small letters"),
        (
            "flows:\n  a:\n    sink: {type: jsonl}\n",
            "2:3: flows.a.source: is missing: expected one such as {type: scrapy,",
        ),
        (
            "flows:\n  a:\n    source: {type: sse}\n",
            "2:3: flows.a.sink: is missing: expected one such as {type: jsonl,",
        ),
        (
            "flows:\n  a:\n    source: sse\n    sink: {type: x}\n",
            "3:13: flows.a.source: expected one such as {type: sc",
        ),
        ("flows:\n  a:\n    source: {url: x}\n    sink: {type: x}\n", "3:5: flows.a.source.type: is missing"),
        (
            "flows:\n  a:\n    source: {type: [x]}\n    sink: {type: x}\n",
            "3:20: flows.a.source.type: expected text, not a",
        ),
        ("flows:\n  a: 1\n", "2:6: flows.a: expected a source and a sink, not 1"),
        ("flow:\n  a:\n" + SOUND, "1:1: flow: unknown key: did you mean 'flows'?"),
        ("flows:\n  a:\n" + SOUND + "extra: 1\n", "5:1: extra: unknown key: expected `flows`, or x-…"),
        ("flows: {}\n", "1:8: flows: expected `flows:` with a flow beneath it"),
        ("flows:\n", "1:7: flows: expected `flows:` with a flow beneath it"),
        ("- a\n", "1:1: expected `flows:` with a flow beneath it"),
        ("flows:\n  a:\n" + SOUND + "  a:\n" + SOUND, "5:3: flows.a: given twice (first in line 2): expected it once"),
        (
            "flows:\n  a:\n    source: {type: sse, type: sse}\n    sink: {type: x}\n",
            "3:25: flows.a.source.type: given twice (first in line 3)",
        ),
        ("flows:\n  a:\n\t source: 1\n", "3:1: not YAML: found character '\\t' that cannot start any token (indent"),
        ("flows:\n  a:\n    source: {type: sse\n", "3:13: not YAML: the { here has no end: expected ',' or '}'"),
        ("flows:\n  a: b: c\n", "2:7: not YAML: mapping values are not allowed here"),
        (
            "flows:\n  a:\n    batch: {records: ${N:-5}}\n",
            "3:23: not YAML: expected ',' or '}', but got '{' (between { }",
        ),
        ("flows: 1\n---\nflows: 2\n", "2:1: not YAML: but found another document"),
        ("flows:\n  a: \x07\n", "2:6: not YAML: the character U+0007 is not allowed"),
        (b"flows:\n  a\xe9: 1\n", "2:4: not UTF-8: byte 0xe9"),
        (
            "flows:\n  a:\n    lease: !!python/name:os.system x\n" + SOUND,
            "3:12: flows.a.lease: expected a value without a",
        ),
        ("flows:\n  ? [a]\n  : b\n  a:\n" + SOUND, "2:5: flows.?: expected a name as the key"),
        ("flows: *nothing\n", "1:8: not YAML: found undefined alias 'nothing'"),
        ("flows:\n  a:\n    <<: 5\n" + SOUND, "3:9: flows.a.<<: expected an alias of a mapping"),
    ],
)
def test_a_file_that_is_no_flows_file_is_placed_and_said(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert errors(tmp_path, text)[0].startswith(expected)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_file_is_an_error_that_shows_what_belongs_there(text: str, tmp_path: Path) -> None:
    found = errors(tmp_path, text)
    assert "is empty: expected `flows:` with a flow beneath it" in found[0]
    assert "      source: {type: scrapy, spider: quotes}" in found


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        "flows:\n  a:\n    source: {type: sse}\n    lease: soon\n    batch: {records: ${}, lingr: 1s}\n".replace(
            "${}", "none"
        )
        + "  B:\n"
        "    sink: {type: jsonl, type: csv}\n"
        "    publish: {linger: x}\n"
        "  c: 5\n",
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["2:3", "flows.a.sink"],
        ["4:12", "flows.a.lease"],
        ["5:22", "flows.a.batch.records"],
        ["5:28", "flows.a.batch.lingr"],
        ["6:3", "flows.B"],
        ["6:3", "flows.B.source"],
        ["7:25", "flows.B.sink.type"],
        ["8:23", "flows.B.publish.linger"],
        ["9:6", "flows.c"],
    ]


def test_two_flows_cant_share_a_list(tmp_path: Path) -> None:
    text = f"flows:\n  a:\n{SOUND}    queue: {{key: K}}\n  b:\n{SOUND}    queue: {{key: K}}\n"
    assert errors(tmp_path, text) == [
        "9:18: flows.b.queue.key: 'K' is the list of flow a already: expected a list of its own"
    ]


def test_a_default_list_is_taken_too(tmp_path: Path) -> None:
    text = f"flows:\n  a:\n{SOUND}  b:\n{SOUND}    queue: {{key: 'millrace:a'}}\n"
    assert errors(tmp_path, text) == [
        "8:18: flows.b.queue.key: 'millrace:a' is the list of flow a already: expected a list of its own"
    ]


@pytest.mark.parametrize(("first", "second"), [("K", "{K}:leases"), ("x{K}", "x{K}:dead")])
def test_a_list_cant_have_the_name_of_what_another_flow_keeps_beside_its_list(
    first: str, second: str, tmp_path: Path
) -> None:
    text = f"flows:\n  a:\n{SOUND}    queue: {{key: '{first}'}}\n  b:\n{SOUND}    queue: {{key: '{second}'}}\n"
    assert errors(tmp_path, text) == [
        "9:18: flows.b.queue.key: is among the names that flow a uses beside its list: expected another"
    ]


@pytest.mark.parametrize(("first", "second"), [("K", "{K}"), ("{K}", "K")])
def test_two_lists_whose_flows_would_keep_the_same_keys_beside_them_are_refused(
    first: str, second: str, tmp_path: Path
) -> None:
    text = f"flows:\n  a:\n{SOUND}    queue: {{key: '{first}'}}\n  b:\n{SOUND}    queue: {{key: '{second}'}}\n"
    assert errors(tmp_path, text) == [
        f"9:18: flows.b.queue.key: '{second}' has the names beside it of the list of flow a already: "
        "expected a list of its own"
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${NOPE}", "5:12: flows.a.lease: the environment variable NOPE is not set: set it, or write ${NOPE:-default}"),
        ("  '1${NOPE}'", "5:16: flows.a.lease: the environment variable NOPE is not set"),
        ("${A:-${NOPE}}", "5:17: flows.a.lease: the environment variable NOPE is not set"),
        ("${1}", "5:12: flows.a.lease: ${1} is no variable: expected ${NAME}, ${NAME:-default}"),
        ("${}", "5:12: flows.a.lease: ${} is no variable"),
        ("${A:?x}", "5:12: flows.a.lease: ${A:?x} is no variable"),
        ("x${A", "5:13: flows.a.lease: ${ without its }"),
    ],
)
def test_a_variable_that_is_not_set_or_not_one_is_placed_where_it_begins(
    value: str, expected: str, tmp_path: Path
) -> None:
    (found,) = errors(tmp_path, f"flows:\n  a:\n{SOUND}    lease: {value}\n")
    assert found.startswith(expected)


def test_a_bomb_of_aliases_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "more than 20000 values" in errors(tmp_path, "\n".join(lines))[0]


@pytest.mark.parametrize("text", ["a: &a [*a]", "x-a: &a\n  <<: *a\n", "a: " + "[" * 60 + "]" * 60])
def test_what_holds_itself_or_nests_for_ever_is_refused(text: str, tmp_path: Path) -> None:
    assert "nested" in errors(tmp_path, text)[0]


def test_half_a_million_values_are_refused_before_all_of_them_are_read(tmp_path: Path) -> None:
    (found,) = errors(tmp_path, "x-a: [" + "x," * 500_000 + "]\n")
    assert found == "1:80001: more than 20000 values: expected a file that a person wrote"


def test_variables_within_variables_without_end_are_refused_quickly(tmp_path: Path) -> None:
    assert "too many in one" in errors(tmp_path, "x-a: '" + "${A:-" * 100_000 + "}" * 100_000 + "'\n")[-1]


def test_two_hundred_thousand_brackets_are_refused(tmp_path: Path) -> None:
    assert "nested too deep" in errors(tmp_path, "[" * 200_000)[0]


def test_a_file_that_is_no_persons_is_refused(tmp_path: Path) -> None:
    assert "more than 1048576 bytes" in errors(tmp_path, "#" * 2_000_000)[0]


def test_a_file_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(Path("flows.yaml"), {})
    assert str(caught.value) == (
        f"there is no flows.yaml (looked for {tmp_path}/flows.yaml): "
        "set MILLRACE_FLOWS to the file, or cd to its folder"
    )


def test_a_folder_is_no_flows_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory: set MILLRACE_FLOWS to a file"):
        load(tmp_path, {})
