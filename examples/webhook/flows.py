"""What the flow sends of an event."""

from typing import Any


def new_page(change: dict[str, Any]) -> dict[str, Any] | None:
    """A created page, in a few words; nothing of all other changes."""
    if change.get("type") != "new" or change["meta"].get("domain") == "canary":
        return None
    return {"title": change["title"], "wiki": change["wiki"], "user": change["user"], "at": change["meta"]["dt"]}
