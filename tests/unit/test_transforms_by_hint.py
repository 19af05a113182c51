"""How a function is called is said by its first type hint; and what becomes of the records it fails on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import BaseModel

from millrace_consumer.transforms import Outcome, apply, concurrent
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.jsontext import encode_json
from tests.conftest import eventually

if TYPE_CHECKING:
    import pandas as only_for_mypy


def envelopes(*values: Any) -> list[Envelope]:
    return [Envelope(f"id{i}", "s", "t", None, msgspec.Raw(encode_json(value))) for i, value in enumerate(values)]


def values(outcome: Outcome) -> list[Any]:
    return [envelope.value for envelope in outcome.envelopes]


NUMBERS = [{"n": n, "word": "ü" * n} for n in range(5)]


def with_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    frame["double"] = frame["n"] * 2
    return frame


def with_polars(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(double=pl.col("n") * 2)


def with_arrow(table: pa.Table) -> pa.Table:
    return table.append_column("double", pc.multiply(table["n"], 2))


def with_list(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "double": record["n"] * 2} for record in records]


WHOLE = [with_pandas, with_polars, with_arrow, with_list]


@pytest.mark.parametrize("function", WHOLE)
def test_a_function_of_a_table_gets_all_records_and_gives_them_back(function: Callable[..., Any]) -> None:
    outcome = apply(envelopes(*NUMBERS), [function])
    assert values(outcome) == [{**record, "double": record["n"] * 2} for record in NUMBERS]
    assert [envelope.id for envelope in outcome.envelopes] == [f"id{i}" for i in range(5)]
    assert (outcome.filtered, outcome.rejected) == ([], {})


@pytest.mark.parametrize("function", WHOLE)
def test_the_record_that_makes_it_fail_is_rejected_alone(function: Callable[..., Any]) -> None:
    given = [*NUMBERS, {"n": {"no": "number"}, "word": ""}, *NUMBERS]
    outcome = apply(envelopes(*given), [function])
    assert list(outcome.rejected) == [5]
    assert outcome.rejected[5]
    assert values(outcome) == [{**record, "double": record["n"] * 2} for record in NUMBERS * 2]
    assert outcome.origin == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


def test_records_that_fail_only_together_are_rejected_together() -> None:
    def no_two_alike(records: list[Any]) -> list[Any]:
        if len(set(records)) < len(records):
            raise ValueError("two alike")
        return records

    outcome = apply(envelopes(1, 2, 3, 3), [no_two_alike])
    assert values(outcome) == [1, 2]
    assert set(outcome.rejected) == {2, 3}
    assert "ValueError: two alike (test_transforms_by_hint.py:" in outcome.rejected[2]


def test_what_a_failing_call_did_to_its_records_is_not_there_in_the_next() -> None:
    def spoil(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            record["seen"] = record.get("seen", 0) + 1
            assert "bad" not in record
        return records

    outcome = apply(envelopes({"n": 1}, {"bad": 1}, {"n": 2}), [spoil])
    assert values(outcome) == [{"n": 1, "seen": 1}, {"n": 2, "seen": 1}]


def test_rows_that_pandas_leaves_out_are_the_records_that_are_filtered() -> None:
    def odd(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["n"] % 2 == 1]

    outcome = apply(envelopes(*NUMBERS), [odd])
    assert [envelope.id for envelope in outcome.envelopes] == ["id1", "id3"]
    assert outcome.filtered == [0, 2, 4]


def test_rows_that_pandas_sorts_keep_the_ids_of_their_records() -> None:
    def newest_first(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.sort_values("n", ascending=False)

    outcome = apply(envelopes(*NUMBERS), [newest_first])
    assert [(e.id, e.value["n"]) for e in outcome.envelopes] == [(f"id{n}", n) for n in (4, 3, 2, 1, 0)]


def test_where_rows_do_not_tell_where_they_come_from_every_record_is_accounted_for() -> None:
    def total(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select(total=pl.col("n").sum())

    outcome = apply(envelopes(*NUMBERS), [total])
    assert values(outcome) == [{"total": 10}]
    assert len(outcome.filtered) + len(set(outcome.origin)) == 5


def test_more_rows_than_records_have_ids_of_their_own() -> None:
    def twice(records: list[Any]) -> list[Any]:
        return [*records, *records]

    ids = [envelope.id for envelope in apply(envelopes(1, 2), [twice]).envelopes]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("function", WHOLE[:3])
def test_missing_fields_are_null_and_whole_numbers_stay_whole(function: Callable[..., Any]) -> None:
    outcome = apply(envelopes({"n": 9007199254740993}, {"n": None, "word": "x"}), [function])
    assert values(outcome) == [
        {"n": 9007199254740993, "word": None, "double": 18014398509481986},
        {"n": None, "word": "x", "double": None},
    ]


def test_a_table_left_as_it_was_keeps_the_bytes_of_its_records() -> None:
    def look(frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    text = b'{"n": 1.50,"s":"\\u00e4"}'
    given = [Envelope("id", "s", "t", None, msgspec.Raw(text))]
    assert [envelope.text for envelope in apply(given, [look]).envelopes] == [text]


def test_pandas_own_values_become_json() -> None:
    def odd_values(frame: pd.DataFrame) -> pd.DataFrame:
        frame["at"] = pd.Timestamp("2026-11-21T01:02:03Z")
        frame["never"] = pd.NaT
        frame["mean"] = frame["n"].mean()
        frame["nan"] = float("nan")
        return frame

    (record,) = values(apply(envelopes({"n": 1}), [odd_values]))
    assert record == {"n": 1, "at": "2026-11-21T01:02:03Z", "never": None, "mean": 1.0, "nan": None}


def test_what_is_no_object_makes_no_table_and_is_rejected_alone() -> None:
    outcome = apply(envelopes({"n": 1, "word": ""}, "text", {"n": 2, "word": ""}), [with_pandas])
    assert list(outcome.rejected) == [1]
    assert "this is a str" in outcome.rejected[1]


def test_a_table_function_that_returns_something_else_says_what_it_should_have() -> None:
    def wrong(frame: pd.DataFrame) -> Any:
        return len(frame)

    assert "expected a pandas.DataFrame, not int" in apply(envelopes({"n": 1}), [wrong]).rejected[0]


def test_functions_of_a_record_and_of_a_table_take_turns() -> None:
    def no_twos(record: dict[str, Any]) -> Any:
        return None if record["n"] == 2 else record

    outcome = apply(envelopes(*NUMBERS), [no_twos, with_pandas, no_twos, with_arrow, lambda record: record["double"]])
    assert values(outcome) == [0, 2, 6, 8]
    assert outcome.filtered == [2]


class Priced(BaseModel):
    price: float
    currency: str = "EUR"


def test_a_function_of_a_model_gets_the_record_validated() -> None:
    def euros(item: Priced) -> Priced:
        return item.model_copy(update={"price": item.price + 1})

    outcome = apply(envelopes({"price": "2.5"}, {"price": "cheap"}), [euros])
    assert values(outcome) == [{"price": 3.5, "currency": "EUR"}]
    assert "price" in outcome.rejected[1]


def test_a_hint_that_is_only_there_for_the_type_checker_is_known_by_its_name() -> None:
    def double(frame: only_for_mypy.DataFrame) -> Any:  # type: ignore[name-defined]
        return frame

    def double_pd(frame: pd.DataFrame) -> Missing:  # type: ignore[name-defined]  # noqa: F821
        frame["n"] = frame["n"] * 2
        return frame

    assert values(apply(envelopes({"n": 4}), [double_pd])) == [{"n": 8}]


def test_an_async_function_is_called_for_several_records_at_once_and_keeps_their_order() -> None:
    under_way: list[int] = []
    most = 0

    @concurrent(3)
    async def look_up(record: dict[str, Any]) -> dict[str, Any]:
        nonlocal most
        under_way.append(record["n"])
        most = max(most, len(under_way))
        for _ in range(5 - record["n"]):
            await asyncio.sleep(0)
        under_way.remove(record["n"])
        if record["n"] == 3:
            raise ConnectionError("no answer")
        return {"n": record["n"], "found": True}

    outcome = apply(envelopes(*NUMBERS), [look_up])
    assert values(outcome) == [{"n": n, "found": True} for n in (0, 1, 2, 4)]
    assert "ConnectionError: no answer" in outcome.rejected[3]
    assert most == 3


def test_a_function_may_be_called_from_threads_within_a_bound() -> None:
    gate = threading.Barrier(4, timeout=30)

    @concurrent(4)
    def look_up(n: int) -> int:
        gate.wait()  # four of them are here at once, or nobody passes
        return n * 10

    assert values(apply(envelopes(*range(8)), [look_up])) == [n * 10 for n in range(8)]
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("transform")])


def test_no_calls_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        concurrent(0)


def test_a_reason_names_the_last_frames_innermost_first() -> None:
    def inner(record: Any) -> Any:
        return record["missing"]

    def outer(record: Any) -> Any:
        return inner(record)

    (reason,) = apply(envelopes({}), [outer]).rejected.values()
    assert reason.count("test_transforms_by_hint.py:") == 2
    assert " < " in reason


def test_a_library_that_is_not_installed_is_asked_for_before_any_record_is_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(module: str, extra: str, what: str) -> Any:
        raise ConfigError(f"{what} needs {module}: pip install 'millrace[{extra}]'")

    def another(frame: pl.DataFrame) -> pl.DataFrame:
        return frame

    monkeypatch.setattr("millrace_consumer.transforms.chain.need", missing)
    with pytest.raises(ConfigError, match=r"a transform of polars.DataFrame needs polars: pip install"):
        apply(envelopes({"n": 1}), [another])
