"""What is written to a Delta table: rows that are added, and rows that take the place of those with their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

HAS = "millrace_has_"
"""With a number, a column beside the rows: whether a record has a value for one of the others."""


class Merged(NamedTuple):
    """One row a key. `places` say of each column which record a value is of, `has` whether that record has one.

    A column that all of them have is not in `has`.
    """

    rows: pa.Table
    places: dict[str, Sequence[int]]
    has: dict[str, list[bool]]


def merged_by_key(
    rows: pa.Table, given: Mapping[str, Sequence[bool]], key: Sequence[str], version: str | None
) -> Merged:
    """Return one row a key: what the records of that key come to, one after the other.

    A record with a lesser version than one before it counts for nothing. Of a column that is in `given`, the last
    record counts that has it.
    """
    by_key: dict[tuple[Any, ...], list[int]] = {}
    versions = rows[version].to_pylist() if version else None
    for place, values in enumerate(zip(*(rows[column].to_pylist() for column in key), strict=True)):
        counted = by_key.setdefault(values, [])
        if not (versions and counted and _less(versions[place], versions[counted[-1]])):
            counted.append(place)
    counted_of = sorted(by_key.values(), key=lambda counted: counted[-1])
    last = [counted[-1] for counted in counted_of]
    places: dict[str, Sequence[int]] = dict.fromkeys(rows.schema.names, last)
    has = {}
    for name, gives in given.items():
        if name in places and not all(gives):
            found = [next((place for place in reversed(counted) if gives[place]), None) for counted in counted_of]
            places[name] = [other if place is None else place for place, other in zip(found, last, strict=True)]
            if None in found:
                has[name] = [place is not None for place in found]
    return Merged(pa.table({name: rows[name].take(pa.array(where)) for name, where in places.items()}), places, has)


def append(table: DeltaTable, rows: pa.Table, properties: CommitProperties | None) -> None:
    """Add rows, and columns and fields of nested types that the table lacks."""
    from deltalake import write_deltalake

    write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=properties)


def upsert(
    table: DeltaTable,
    rows: pa.Table,
    properties: CommitProperties,
    key: Sequence[str],
    version: str | None,
    has: Mapping[str, Sequence[bool]],
) -> None:
    """Put rows in the place of those with their key; a column of `has` keeps what is there where it is false."""
    names = rows.schema.names
    flags = {name: f"{HAS}{number}" for number, name in enumerate(has)}
    for name, flag in flags.items():
        rows = rows.append_column(flag, pa.array(has[name]))
    given = {_quoted(name): f"s.{_quoted(name)}" for name in names}
    kept = {
        _quoted(name): f"CASE WHEN s.{_quoted(flag)} THEN s.{_quoted(name)} ELSE t.{_quoted(name)} END"
        for name, flag in flags.items()
    }
    same = " AND ".join(f"t.{_quoted(name)} = s.{_quoted(name)}" for name in key)
    newer = f"t.{_quoted(version)} IS NULL OR s.{_quoted(version)} >= t.{_quoted(version)}" if version else None
    merger = table.merge(rows, same, source_alias="s", target_alias="t", commit_properties=properties)
    merger.when_matched_update(given | kept, newer).when_not_matched_insert(given).execute()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _less(one: Any, other: Any) -> bool:
    """As the table will have it: nothing is replaced by null, and null by anything."""
    return other is not None and (one is None or one < other)
