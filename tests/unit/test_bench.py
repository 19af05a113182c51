"""The benchmark's own honesty: a wrong answer fails it, a slow one never does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import __main__ as command
from bench import check
from bench.data import Events, enveloped, id_of, number_of, unique_id
from bench.lab import Lab, Process
from bench.markdown import table_of
from bench.plot import draw
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer

LINES = [b'{"n": 1}', b'{"n": 2}', b'{"n": 3}']


def test_the_same_lines_in_another_order_agree() -> None:
    check.agree("it", check.total(reversed(LINES)), check.total(LINES))


@pytest.mark.parametrize(
    ("got", "told"),
    [
        (LINES[:2], "2 records instead of 3"),
        ([*LINES, LINES[0]], "4 records instead of 3"),
        ([*LINES[:2], b'{"n":  3}'], "25 bytes instead of 24"),
        ([*LINES[:2], LINES[1]], "other ones"),
    ],
)
def test_what_is_lost_doubled_or_changed_is_a_wrong_answer(got: list[bytes], told: str) -> None:
    with pytest.raises(WrongAnswer, match=told):
        check.agree("it", check.total(got), check.total(LINES))


def test_json_may_be_spelled_in_another_way_where_a_side_may() -> None:
    check.agree("it", check.total([b'{"b":1, "a":2}'], check.as_json), check.total([b'{"a":2,"b":1}'], check.as_json))


def test_no_two_events_have_one_id() -> None:
    events = list(Events().some(5_000))
    assert [number_of(id_of(event)) for event in events] == list(range(5_000))
    assert len(unique_id(5)) == 36
    assert all(b'"specversion":"1.0"' in line for line in enveloped(events[:10]))


def test_both_sides_read_the_same_recordings_whatever_else_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_TEST_DATA", "/recordings")
    monkeypatch.setenv("MILLRACE_LOG", "pretty")
    program = "import os; print(sorted(name for name in os.environ if name.startswith('MILLRACE_')))"
    with Process(["-c", program], tmp_path, {}) as process:
        process.wait()
    assert process.last_words.strip() == "['MILLRACE_TEST_DATA']"


def _row(value: float, *, wrong: bool = False) -> Row:
    @contextlib.contextmanager
    def sides(_lab: Lab, _size: int) -> Iterator[tuple[Side, Side]]:
        def ours() -> tuple[float, ...]:
            if wrong:
                raise WrongAnswer("ours: 2 records instead of 3")
            return (value,)

        yield ours, lambda: (1.0,)

    return Row("1", "a row of {size:,}", "ours", "a peer", (Figure("records/s", Goal(2)),), (1_000, 10), sides)


def _bench(monkeypatch: pytest.MonkeyPatch, row: Row, *arguments: str) -> int:
    monkeypatch.setattr(command, "ROWS", [row])
    return command.main(["--only", "1", *arguments])


def test_a_wrong_answer_ends_it_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _bench(monkeypatch, _row(9, wrong=True)) == 1
    assert "wrong answer in row 1" in capsys.readouterr().out


def test_a_goal_that_is_missed_is_shown_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results, picture = tmp_path / "results.json", tmp_path / "picture.svg"
    assert _bench(monkeypatch, _row(1.5), "--rounds", "3", "--json", str(results), "--plot", str(picture)) == 0
    assert "missed" in capsys.readouterr().out
    report = json.loads(results.read_text())
    assert report["rows"][0] | {"what": "a row of 1,000", "median": 1.5, "met": False} == report["rows"][0]
    assert report["rows"][0]["rounds"]["ratio"] == [1.5] * 3
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    assert "a row of 1,000" in draw(report)
    line = "| 1 | a row of 1,000 | a peer | 1.5 records/s | 1 records/s | **1.5×** (1.5 – 1.5) | ≥ 2× | ✗ |"
    assert table_of(report).splitlines()[2:] == [line]


def test_a_number_means_all_rows_that_bear_it() -> None:
    assert [row.number for row in command._rows("19,1")] == ["1", "19a", "19b", "19c", "19d"]
