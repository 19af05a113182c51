"""What the lake keeps of an event."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Edit(BaseModel):
    """A row of the lake."""

    id: str
    time: datetime
    wiki: str | None
    type: str
    title: str | None
    user: str | None
    bot: bool | None
    comment: str | None
    bytes_added: int | None


def edit(change: dict[str, Any]) -> dict[str, Any]:
    """An event in one level, with what it changed in bytes."""
    length = change.get("length") or {}
    row = {name: change.get(name) for name in ("wiki", "type", "title", "user", "bot", "comment")}
    row |= {"id": change["meta"]["id"], "time": change["meta"]["dt"], "bytes_added": None}
    if length.get("new") is not None:
        row["bytes_added"] = length["new"] - (length.get("old") or 0)
    return row
