"""Ending: what a service says of a flow when it is done, for programs in fields and for people in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def where_to_look(flow: str, dead: int) -> dict[str, str]:
    """Return the field that says where a flow's dead letters are looked at; none where there are none."""
    return {"look": f"millrace dead ls {flow}"} if dead > 0 else {}


def sentence_of(event: Mapping[str, Any]) -> str | None:
    """Return the event that says that a flow is done as a sentence; None for any other."""
    tell = _TELLS.get(str(event.get("event")))
    if tell is None:
        return None
    words = ", ".join(filter(None, tell(event)))
    return f"{event.get('flow')}: {words}" + (f": {look}" if (look := event.get("look")) else "")


def _delivered(event: Mapping[str, Any]) -> list[str | None]:
    some = [_some(event, name) for name in ("filtered", "duplicates", "variants", "dead", "left")]
    return [f"{event.get('delivered', 0):,} delivered", *some]


def _published(event: Mapping[str, Any]) -> list[str | None]:
    dead = _some(event, "dead")  # these are published, too
    return [f"{event.get('published', 0):,} published", dead and f"{dead} among them", _some(event, "duplicates")]


def _some(event: Mapping[str, Any], name: str) -> str | None:
    count = event.get(name, 0)
    return f"{count:,} {name.removesuffix('s') if count == 1 else name}" if count else None


_TELLS: dict[str, Callable[[Mapping[str, Any]], list[str | None]]] = {
    "flow_done": _delivered,
    "consumer_done": _delivered,
    "inline_done": _delivered,
    "producer_done": _published,
}
