"""What `flows.yaml` names: models and transforms. These belong to the shipped flows; change them as you like."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace import drop_canaries
from millrace.spiders import Quote

__all__ = ["Quote", "RecentChange", "drop_canaries"]


class Meta(BaseModel):
    """What every Wikimedia event says of itself."""

    id: str
    dt: datetime
    domain: str | None = None
    stream: str | None = None
    uri: str | None = None
    request_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    schema_uri: str | None = None


class Change(BaseModel):
    """A number before and after an edit."""

    old: int | None = None
    new: int | None = None


class RecentChange(BaseModel):
    """One event of https://stream.wikimedia.org/v2/stream/recentchange, as its schema describes it.

    Only `meta` and `type` are always there: many log events have no `id`, those of 2019 no `$schema` but a
    `meta.schema_uri`. Numbers pass 2^31. `log_params` is a list, an object or text, as the kind of log has it.
    https://schema.wikimedia.org/repositories/primary/jsonschema/mediawiki/recentchange/current.yaml
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_: str | None = Field(None, alias="$schema")
    meta: Meta
    type: str
    id: int | None = None
    namespace: int | None = None
    title: str | None = None
    title_url: str | None = None
    comment: str | None = None
    parsedcomment: str | None = None
    timestamp: int | None = None
    user: str | None = None
    bot: bool | None = None
    minor: bool | None = None
    patrolled: bool | None = None
    notify_url: str | None = None
    length: Change | None = None
    revision: Change | None = None
    server_url: str | None = None
    server_name: str | None = None
    server_script_path: str | None = None
    wiki: str | None = None
    log_id: int | None = None
    log_type: str | None = None
    log_action: str | None = None
    log_params: Any = None
    log_action_comment: str | None = None
