"""A model of seven columns."""

from __future__ import annotations

from pydantic import BaseModel


class Meta(BaseModel):
    id: str
    domain: str | None = None


class Change(BaseModel):
    """What one would look at of a recentchange event."""

    meta: Meta
    type: str
    title: str | None = None
    user: str | None = None
    bot: bool | None = None
    wiki: str | None = None
    timestamp: int | None = None
