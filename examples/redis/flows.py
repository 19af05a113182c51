"""What the flow keeps of an event."""

from typing import Any


def edit(change: dict[str, Any]) -> dict[str, Any] | None:
    """An edit in a few words; nothing of other changes."""
    if change.get("type") != "edit":
        return None
    return {"wiki": change["wiki"], "title": change["title"], "user": change["user"], "at": change["meta"]["dt"]}
