"""Records as a table of the user's choice, and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, NamedTuple

from millrace_pipeline.extras import need

WHOLE_FLOATS = 2**53
"""Up to here every whole number is a float."""


class Frame(NamedTuple):
    """A kind of table: how it is made of records, and what its rows are as records.

    `rows` gives a record a row, and for each the index of the record it was made of, or None where nobody can tell.
    """

    make: Callable[[list[Any]], Any]
    rows: Callable[[Any], tuple[list[Any], list[int] | None]]
    kind: str
    library: str = ""
    """What has to be installed for it, beyond what Millrace needs anyway."""
    misfits: Callable[[list[Any]], dict[int, str]] = lambda _: {}
    """By index the records of which the table would silently make something else, and why."""


def _list_rows(result: Any) -> tuple[list[Any], None]:
    if not isinstance(result, list | tuple):
        raise TypeError(f"expected a list of records, not {type(result).__qualname__}")
    return list(result), None


def _arrow(records: list[Any]) -> Any:
    import pyarrow as pa

    names = dict.fromkeys(name for record in _objects(records) for name in record)
    # By column, since from_pylist knows the fields of the first record alone.
    return pa.table({name: pa.array([record.get(name) for record in records]) for name in names})


def _arrow_rows(result: Any) -> tuple[list[Any], None]:
    import pyarrow as pa

    if not isinstance(result, pa.Table):
        raise TypeError(f"expected a pyarrow.Table, not {type(result).__qualname__}")
    return result.to_pylist(), None


def _pandas(records: list[Any]) -> Any:
    pandas = need("pandas", "pandas", "a transform of pandas.DataFrame")
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for record in _objects(records) for name in record):
        values = [record.get(name) for record in records]
        # Whole numbers stay whole where some record has none: pandas' own floats would make 3 of it 3.0.
        whole = None in values and all(map(_is_small_int, values)) and any(value is not None for value in values)
        # Beside other values a number that no float holds stays itself.
        kept = not whole and any(type(value) is int and abs(value) > WHOLE_FLOATS for value in values)
        columns[name] = pandas.array(values, dtype="Int64" if whole else object) if whole or kept else values
    return pandas.DataFrame(columns, index=range(len(records)))


def _pandas_rows(result: Any) -> tuple[list[Any], list[int] | None]:
    pandas = need("pandas", "pandas", "a transform of pandas.DataFrame")
    if not isinstance(result, pandas.DataFrame):
        raise TypeError(f"expected a pandas.DataFrame, not {type(result).__qualname__}")
    labels = list(result.index)
    columns = {str(name): [_plain(value) for value in result[name].array] for name in result.columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows, labels if all(isinstance(label, int) for label in labels) else None


def _polars(records: list[Any]) -> Any:
    polars = need("polars", "polars", "a transform of polars.DataFrame")
    return (
        polars.from_dicts(_objects(records), infer_schema_length=None, strict=True) if records else polars.DataFrame()
    )


def _polars_rows(result: Any) -> tuple[list[Any], None]:
    polars = need("polars", "polars", "a transform of polars.DataFrame")
    if not isinstance(result, polars.DataFrame):
        raise TypeError(f"expected a polars.DataFrame, not {type(result).__qualname__}")
    return result.to_dicts(), None


def _polars_misfits(records: list[Any]) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for name in dict.fromkeys(name for record in _objects(records) for name in record):
        values = [record.get(name) for record in records]
        if len(kinds := set(map(type, values)) - {NoneType}) > 1 or kinds & {list, dict}:
            for index in _not_held(values):
                reasons.setdefault(
                    index, f"{name}: the column can't hold it as it is beside what most records have there"
                )
    return reasons


def _not_held(values: list[Any]) -> list[int]:
    """The values that a polars column of all of them would make something else of."""
    polars = need("polars", "polars", "a transform of polars.DataFrame")
    there = [index for index, value in enumerate(values) if value is not None]
    most = Counter(_kind(values[index]) for index in there).most_common(1)[0][0]
    of_one = [index for index in there if _kind(values[index]) is most]
    others = sorted({*there} - {*of_one})
    try:
        found = polars.from_dicts([{"": values[index]} for index in of_one], infer_schema_length=None, strict=True)[
            ""
        ].to_list()
    except (polars.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return others  # to make the table says why
    return [*others, *(index for index, cell in zip(of_one, found, strict=True) if not _is_same(values[index], cell))]


def _kind(value: Any) -> type:
    return float if type(value) is int or isinstance(value, float) else type(value)


def _is_same(value: Any, cell: Any) -> bool:
    """Return True where a cell holds a record's value; what an object lacks is null there."""
    if isinstance(value, dict):
        return isinstance(cell, dict) and all(_is_same(value.get(name), inner) for name, inner in cell.items())
    if isinstance(value, list):
        return isinstance(cell, list) and len(value) == len(cell) and all(map(_is_same, value, cell))
    if isinstance(value, bool) or isinstance(cell, bool):
        return value is cell
    return bool(value == cell)


def _objects(records: list[Any]) -> list[dict[str, Any]]:
    for record in records:
        if not isinstance(record, dict):
            raise TypeError(f"a table is made of objects, and this is a {type(record).__qualname__}")
    return records


def _is_small_int(value: Any) -> bool:
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _plain(value: Any) -> Any:
    """A cell as JSON can say it: pandas' missing values are null, numpy's numbers are Python's."""
    if value is None or type(value) in (str, int, bool, dict, list):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime(warn=False)
    if hasattr(value, "tolist"):  # a numpy scalar, or an array
        return _plain(value.tolist()) if getattr(value, "ndim", 0) == 0 else value.tolist()
    return value


LISTS = Frame(list, _list_rows, "list")
FRAMES: dict[tuple[str, str], Frame] = {
    ("pyarrow", "Table"): Frame(_arrow, _arrow_rows, "pyarrow.Table"),
    ("pandas", "DataFrame"): Frame(_pandas, _pandas_rows, "pandas.DataFrame", "pandas"),
    ("polars", "DataFrame"): Frame(_polars, _polars_rows, "polars.DataFrame", "polars", _polars_misfits),
}
"""By the library's name and the class's."""


def origins(count: int, labels: Sequence[int] | None, rows: int) -> list[int]:
    """For each of so many rows the index of the record, of `count`, that it is taken to come from.

    Where the labels don't tell, the first row comes from the first record, and what there is more from the last one.
    """
    if labels is not None and all(0 <= label < count for label in labels):
        return list(labels)
    return [min(index, count - 1) for index in range(rows)]
