"""What is written to a Delta table: rows that are added, and rows that take the place of those with their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable

HAS = "millrace_has_"
"""With a number, a column beside the rows: whether a record has a value for one of the others."""
AS_OF = "millrace_as_of_"
"""With the same number: the version of that record, where it isn't the row's own."""


class Merged(NamedTuple):
    """One row a key. `has` says of a column which rows have a value for it, `as_of` of which version that is.

    A column that all records have is in neither.
    """

    rows: pa.Table
    has: dict[str, list[bool]]
    as_of: dict[str, pa.Array]


def merged_by_key(
    rows: pa.Table, given: Mapping[str, Sequence[bool]], key: Sequence[str], version: str | None
) -> Merged:
    """Return one row a key: what the records of that key come to, one after the other.

    A record with a lesser version than one before it counts for nothing. Of a column that is in `given`, the last
    record counts that has it; it may be of a lesser version than the row, and so one that the table has gone beyond.
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
    has, as_of = {}, {}
    for name, gives in given.items():
        if name in places and not all(gives):
            found = [next((place for place in reversed(counted) if gives[place]), None) for counted in counted_of]
            if found == last:
                continue
            has[name] = [place is not None for place in found]
            places[name] = [other if place is None else place for place, other in zip(found, last, strict=True)]
            if version:
                as_of[name] = rows[version].take(pa.array(places[name]))
    taken = {name: rows[name].take(pa.array(where)) for name, where in places.items()}
    return Merged(pa.table(taken), has, as_of)


def append(table: DeltaTable, rows: pa.Table, properties: CommitProperties | None) -> None:
    """Add rows, and columns and fields of nested types that the table lacks."""
    from deltalake import write_deltalake

    write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=properties)


def upsert(
    table: DeltaTable, merged: Merged, properties: CommitProperties, key: Sequence[str], version: str | None
) -> None:
    """Put rows in the place of those with their key.

    A column keeps what is there where its row has nothing for it, or something older than what is there.
    """
    rows, names = merged.rows, merged.rows.schema.names
    given = {_quoted(name): f"s.{_quoted(name)}" for name in names}
    kept = {}
    for number, (name, has) in enumerate(merged.has.items()):
        flag = f"{HAS}{number}"
        rows = rows.append_column(flag, pa.array(has))
        counts = f"s.{flag}"
        if version:
            rows = rows.append_column(f"{AS_OF}{number}", merged.as_of[name])
            counts += f" AND ({_newer(version, f'{AS_OF}{number}')})"
        kept[_quoted(name)] = f"CASE WHEN {counts} THEN s.{_quoted(name)} ELSE t.{_quoted(name)} END"
    same = " AND ".join(f"t.{_quoted(name)} = s.{_quoted(name)}" for name in key)
    merger = table.merge(rows, same, source_alias="s", target_alias="t", commit_properties=properties)
    newer = _newer(version, version) if version else None
    merger.when_matched_update(given | kept, newer).when_not_matched_insert(given).execute()


def _newer(version: str, other: str) -> str:
    """Return when a version of the rows counts: where what is there has none, or none that is greater."""
    return f"t.{_quoted(version)} IS NULL OR s.{_quoted(other)} >= t.{_quoted(version)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _less(one: Any, other: Any) -> bool:
    """As the table will have it: nothing is replaced by null, and null by anything."""
    return other is not None and (one is None or one < other)
