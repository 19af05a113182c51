"""Rows brought into the columns and types of a Delta table that is there, so that no value is lost on the way.

Arrow casts one struct to another by the letter, and drops in silence what the other has no field for. What becomes of
each value is in `deltaholds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from millrace_consumer.matching import Matching
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.deltaholds import MISFITS, brought_into


class Fitted(NamedTuple):
    """Rows as the table has them, by its own names, and what it lacks: columns, and fields of nested types."""

    rows: pa.Table
    lacking: list[str]


def fitted(rows: pa.Table, table: pa.Schema, path: str) -> Fitted:
    """Return the rows with the names and types of a table's columns.

    Raises RecordsRejected naming those with a value that doesn't fit, SinkUnavailable where a column can't.
    """
    names = names_in(table, rows.schema.names, path)
    rejected: dict[int, str] = {}
    lacking: list[str] = []
    columns: list[pa.ChunkedArray] = []
    for field in rows.schema:
        name, column = names[field.name], rows[field.name]
        if name not in table.names:
            lacking.append(name)
        elif (there := table.field(name).type) != field.type:
            alike, type = _aligned(field.type, there, name, lacking, path)
            try:
                if alike != field.type:
                    column = pa.chunked_array([chunk.view(alike) for chunk in column.chunks], alike)
                column = brought_into(column, type)
            except pa.ArrowNotImplementedError:
                raise SinkUnavailable(
                    f"column {name} of the table at {path} is {there}, and {field.type} can't be made that"
                ) from None
            except MISFITS:
                rejected = _misfits(column, name, type) | rejected
        columns.append(column)
    if rejected:
        raise RecordsRejected(dict(sorted(rejected.items())))
    return Fitted(pa.table(dict(zip(names.values(), columns, strict=True))), lacking)


def names_in(table: pa.Schema, names: Sequence[str], path: str) -> dict[str, str]:
    """Return what a table calls its columns of these names: Delta tells none apart by capital letters."""
    return _matched(table.names, names, "", path)


def _aligned(
    have: pa.DataType, there: pa.DataType, name: str, lacking: list[str], path: str
) -> tuple[pa.DataType, pa.DataType]:
    """Return `have` with the names of `there`, and what to cast it to: `there`, and what that lacks of it.

    What it lacks is added to `lacking`.
    """
    if pa.types.is_struct(have) and pa.types.is_struct(there):
        names = _matched([field.name for field in there], [field.name for field in have], f"{name}.", path)
        alike: list[pa.Field] = []
        to = {field.name: field for field in there}
        for field in have:
            known = names[field.name]
            if known in to:
                renamed, type = _aligned(field.type, to[known].type, f"{name}.{known}", lacking, path)
                to[known] = to[known].with_type(type)
            else:
                lacking.append(f"{name}.{known}")
                renamed, to[known] = field.type, field
            alike.append(pa.field(known, renamed))
        return pa.struct(alike), pa.struct(list(to.values()))
    if pa.types.is_list(have) and pa.types.is_list(there):
        renamed, type = _aligned(have.value_type, there.value_type, f"{name}[]", lacking, path)
        return pa.list_(have.value_field.with_type(renamed)), pa.list_(there.value_field.with_type(type))
    if pa.types.is_map(have) and pa.types.is_map(there):
        renamed, type = _aligned(have.item_type, there.item_type, f"{name}{{}}", lacking, path)
        return pa.map_(have.key_type, renamed), pa.map_(there.key_type, type)
    return have, there


def _matched(there: Sequence[str], names: Sequence[str], within: str, path: str) -> dict[str, str]:
    match = Matching(there).of(names)
    if not isinstance(match, str) and match.left:
        taken = {name.casefold() for name in (*match.fields, *there)}
        if twice := [name for name in match.left if name.casefold() in taken]:
            match = f"field {twice[0]} has another's column: the table tells no names apart by capital letters"
    if isinstance(match, str):
        raise SinkUnavailable(f"the table at {path}{f', in {within[:-1]}' if within else ''}: {match}")
    return {name: name for name in names} | {field: column for column, field in match.fields.items()}


def _misfits(column: pa.ChunkedArray, name: str, type: pa.DataType) -> dict[int, str]:
    reasons = {}
    for index in range(len(column)):
        try:
            brought_into(column.slice(index, 1), type)
        except MISFITS as misfit:
            reasons[index] = f"{name}: does not fit the table's {type}: {str(misfit).partition(chr(10))[0][:200]}"
    return reasons
