"""Ways to publish: with dedupe or without, with a leader or without. Each row that has to do with it runs in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Way:
    """With dedupe or without, with one producer at a time or with any number."""

    dedupe: bool = False
    leader: bool = False

    def __str__(self) -> str:
        return "-".join(name for name in ("dedupe", "leader") if getattr(self, name)) or "plain"

    @property
    def options(self) -> dict[str, Any]:
        """What a flow says to publish this way."""
        return {"dedupe": {"window": "10m"} if self.dedupe else None}


PLAIN = Way()
WAYS = [PLAIN, Way(dedupe=True), Way(leader=True), Way(dedupe=True, leader=True)]

LED = [way for way in WAYS if way.leader]

in_every_way = pytest.mark.parametrize("way", WAYS, indirect=True, ids=str)
"""For a test in which records are published: it is run in each of them."""

with_a_leader = pytest.mark.parametrize("way", LED, indirect=True, ids=str)
"""The same, where the source is one that only one producer at a time may read."""

SHIPPED = "shipped"
"""How the flows of the repository's own `flows.yaml` publish: with dedupe, one of them with a leader."""
