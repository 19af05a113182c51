"""The processor that flows.yaml names: it picks one number."""

from datetime import UTC, datetime
from typing import Any


def price(answer: dict[str, Any]) -> dict[str, Any]:
    at = datetime.fromtimestamp(int(answer["timestamp"]), UTC)
    return {"at": at.isoformat(), "price": answer["last"]}
