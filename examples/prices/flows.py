"""The processor that flows.yaml names: it picks one number."""

from typing import Any


def price(answer: dict[str, Any]) -> dict[str, Any]:
    return {"at": answer["time"], "price": answer["market"]["last"]}
