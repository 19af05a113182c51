"""What a sound flows file means: defaults, durations, sizes, variables, and YAML without the surprises of 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from millrace_pipeline.flows.document import core_value
from millrace_pipeline.flows.flow import Flow, Flows, load
from millrace_pipeline.flows.interpolate import interpolate
from millrace_pipeline.flows.units import Duration, Size, duration_text

SOUND = "    source: {type: sse, url: http://x/}\n    sink: {type: jsonl, path: data}\n"


def flows_of(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Flows:
    path = tmp_path / "flows.yaml"
    path.write_text(text)
    return load(path, environ or {})


def flow_of(tmp_path: Path, options: str = "", environ: Mapping[str, str] | None = None) -> Flow:
    return flows_of(tmp_path, f"flows:\n  a:\n{SOUND}{options}", environ)["a"]


def test_a_flow_of_a_source_and_a_sink_gets_the_defaults(tmp_path: Path) -> None:
    flow = flow_of(tmp_path)
    assert flow.name == "a"
    assert (flow.source.type, flow.source.options) == ("sse", {"url": "http://x/"})
    assert (flow.sink.type, flow.sink.options) == ("jsonl", {"path": "data"})
    assert (flow.queue.key, flow.queue.max_ready) == ("millrace:a", 1_000_000)
    assert (flow.publish.records, flow.publish.linger) == (500, 0.1)
    assert (flow.batch.records, flow.batch.bytes, flow.batch.linger) == (500, 32 * 2**20, 1.0)
    assert (flow.lease, flow.max_attempts) == (60.0, 3)
    assert (flow.dedupe, flow.transforms, flow.model) == (None, [], None)


def test_every_option_is_read(tmp_path: Path) -> None:
    flow = flow_of(
        tmp_path,
        "    queue: {key: 'a{tag}', max_ready: 10}\n"
        "    dedupe: {window: 1h, key: /meta/id}\n"
        "    publish: {records: 7, linger: 200ms}\n"
        "    batch: {records: 8, bytes: 4kB, linger: 1m30s}\n"
        "    lease: 250ms\n"
        "    max_attempts: 5\n"
        "    transforms: ['m:f', 'm:g']\n"
        "    model: m:M\n",
    )
    assert (flow.queue.key, flow.queue.max_ready) == ("a{tag}", 10)
    assert flow.dedupe is not None
    assert (flow.dedupe.window, flow.dedupe.key) == (3600.0, "/meta/id")
    assert (flow.publish.records, flow.publish.linger) == (7, 0.2)
    assert (flow.batch.records, flow.batch.bytes, flow.batch.linger) == (8, 4000, 90.0)
    assert (flow.lease, flow.max_attempts) == (0.25, 5)
    assert (flow.transforms, flow.model) == (["m:f", "m:g"], "m:M")


def test_flows_keep_the_order_of_the_file_and_know_its_path(tmp_path: Path) -> None:
    flows = flows_of(tmp_path, f"flows:\n  z:\n{SOUND}  b-2_x:\n{SOUND}  0:\n{SOUND}")
    assert list(flows) == ["z", "b-2_x", "0"]
    assert flows.path == tmp_path / "flows.yaml"


def test_a_flow_cant_be_changed(tmp_path: Path) -> None:
    flow = flow_of(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        flow.lease = 1.0


def test_a_flow_can_be_made_in_python() -> None:
    flow = Flow.model_validate({"name": "a", "source": {"type": "sse", "url": "x"}, "sink": {"type": "stdout"}})
    assert (flow.queue.key, flow.source.options, flow.sink.type) == ("millrace:a", {"url": "x"}, "stdout")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (10, 10.0),
        (0.5, 0.5),
        ("10", 10.0),
        ("10s", 10.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("1h30m10s", 5410.0),
        ("7d", 604_800.0),
        (" 5s ", 5.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_seconds(written: Any, seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "10 s", "10S", "-1s", "1s-", "1,5s", "10x", "1e3", -1, True, None, [], "9" * 400, float("nan")]
)
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="expected a duration such as 10s"):
        TypeAdapter(Duration).validate_python(written)


@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000))
def test_a_duration_that_is_written_out_is_read_as_the_same(seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(duration_text(seconds)) == pytest.approx(seconds, rel=1e-4)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("512B", 512),
        ("4kB", 4000),
        ("4KiB", 4096),
        ("32 MiB", 2**25),
        ("1.5GiB", 3 * 2**29),
    ],
)
def test_a_size_is_bytes(written: Any, size: int) -> None:
    assert TypeAdapter(Size).validate_python(written) == size


@pytest.mark.parametrize("written", ["", "32M", "32Mi", "-1B", "1.5B", "0.3kiB", 1.5, True, None, -1, 2**63, "9" * 400])
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError, match="expected a size such as 32MiB"):
        TypeAdapter(Size).validate_python(written)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-11-21", "2026-11-21"),
        ("0b1", "0b1"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1.2.3", "1.2.3"),
        ("9" * 5000, float("inf")),
    ],
)
def test_a_plain_value_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = core_value(text)
    assert found == value
    assert type(found) is type(value)


def test_what_is_text_in_yaml_1_2_stays_text_in_options(tmp_path: Path) -> None:
    source = "{type: sse, a: no, b: 1:30, c: 2026-11-21, d: '5', on: yes, 1: x, e: 0o10}"
    flows = flows_of(tmp_path, f"flows:\n  a:\n    source: {source}\n    sink: {{type: stdout}}\n")
    assert flows["a"].source.options == {
        "a": "no",
        "b": "1:30",
        "c": "2026-11-21",
        "d": "5",
        "on": "yes",
        "1": "x",
        "e": 8,
    }


@pytest.mark.parametrize(
    ("text", "environ", "result"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("a${A}b${A}", {"A": "x"}, "axbx"),
        ("${A}", {"A": ""}, ""),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A-d}", {}, "d"),
        ("${A-d}", {"A": ""}, ""),
        ("${A:-}", {}, ""),
        ("${A:-b:-c-d}", {}, "b:-c-d"),
        ("${A:-${B:-c}}", {}, "c"),
        ("${A:-${B:-c}}", {"B": "b"}, "b"),
        ("${A:-${B}}", {"A": "a"}, "a"),
        ("${A:-x${B}y${C:-z}}!", {"B": "b"}, "xbyz!"),
        ("$$", {}, "$"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$$${A}", {"A": "x"}, "$x"),
        ("${A:-$${B}}", {}, "${B}"),
        ("${A}", {"A": "${B} $$"}, "${B} $$"),
        ("$A ^a$ $", {"A": "x"}, "$A ^a$ $"),
    ],
)
def test_variables_are_put_in_as_docker_compose_does(text: str, environ: dict[str, str], result: str) -> None:
    found = interpolate(text, environ)
    assert (found.text, found.faults) == (result, [])


def test_only_values_of_the_environment_count_as_maybe_secret() -> None:
    assert interpolate("${A} ${B:-d} ${C:-${D}} $${E}", dict.fromkeys("ADE", "x")).variables == {"A": "x", "D": "x"}


@given(st.text())
def test_any_text_can_be_written_with_dollars_doubled(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), {}) == (text, {}, [])


@given(st.text(alphabet="${}:-AB$ ", max_size=30))
def test_no_text_breaks_the_reading_of_variables(text: str) -> None:
    interpolate(text, {"A": "x"})


def test_a_plain_value_is_a_number_after_its_variable_is_in_and_a_quoted_one_stays_text(tmp_path: Path) -> None:
    text = (
        "flows:\n  a:\n"
        "    source:\n      type: sse\n      plain: ${N:-500}\n      quoted: '${N:-500}'\n      joined: 5${N:-00}\n"
        "      flag: ${F:-true}\n      none: ${E:-}\n      word: ${W:-no}\n"
        "    sink: {type: stdout}\n"
        "    batch: {records: '${N:-500}'}\n"
    )
    flow = flows_of(tmp_path, text, {"N": "7"})["a"]
    assert flow.source.options == {
        "plain": 7,
        "quoted": "7",
        "joined": 57,
        "flag": True,
        "none": None,
        "word": "no",
    }
    assert flow.batch.records == 7


def test_keys_hold_no_variables(tmp_path: Path) -> None:
    text = "flows:\n  a:\n    source: {type: sse, '${A}': 1}\n    sink: {type: stdout}\n"
    assert flows_of(tmp_path, text)["a"].source.options == {"${A}": 1}


def test_anchors_and_merges_share_options_and_what_is_written_wins(tmp_path: Path) -> None:
    text = (
        "x-batch: &batch {records: 5, linger: 2s}\n"
        "flows:\n"
        f"  a:\n{SOUND}    batch: *batch\n"
        f"  b:\n{SOUND}    batch: {{records: 9, <<: *batch}}\n"
        f"  c:\n{SOUND}    batch: {{<<: [*batch, {{records: 1, bytes: 7}}]}}\n"
    )
    flows = flows_of(tmp_path, text)
    assert (flows["a"].batch.records, flows["a"].batch.linger) == (5, 2.0)
    assert (flows["b"].batch.records, flows["b"].batch.linger) == (9, 2.0)
    assert (flows["c"].batch.records, flows["c"].batch.bytes) == (5, 7)
