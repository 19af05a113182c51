"""The examples that take a REST API through a function into CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.services import Place


def rows(folder: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Every row of every file."""
    found: list[dict[str, str]] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found += csv.DictReader(file, delimiter=delimiter)
    return found


def test_the_pandas_example_doubles_a_column_of_every_order_and_ends(place: Place) -> None:
    orders = [{"id": n, "old_column": n if n % 7 else None} for n in range(250)]
    orders[100]["old_column"] = {"no": "number"}  # type: ignore[assignment]

    def route(asked: Asked) -> Answer:
        assert asked.path == "/orders"
        page = int(asked.query.get("page", 1))
        return json_answer({"orders": orders[page * 100 - 100 : page * 100]})

    with ApiServer(route) as server:
        place.example("rest-pandas")
        producer = place.produce("orders", API=server.url)
        assert producer.wait() == 0, producer.said
    place.deliver_the_rest()
    found = sorted(rows(place.folder / "data" / "orders"), key=lambda row: int(row["id"]))
    assert [int(row["id"]) for row in found] == [n for n in range(250) if n != 100]
    assert {row["new_column"] for row in found if not int(row["id"]) % 7} == {""}
    assert all(row["new_column"] == str(2 * int(row["id"])) for row in found if int(row["id"]) % 7)
    assert place.books("orders").dead == 1


def test_the_price_poller_keeps_one_number_of_each_answer(place: Place) -> None:
    asked = 0

    def route(question: Asked) -> Answer:
        nonlocal asked
        asked += 1
        assert question.path == "/ticker/btcusd/"
        market = {"closed": True} if asked == 3 else {"last": str(100 + asked), "volume": "7"}
        return json_answer({"timestamp": str(1795219200 + asked), **market})

    with ApiServer(route) as server:
        place.example("prices")
        producer = place.produce("prices", API=server.url, EVERY="50ms")
        producer.until(lambda: asked >= 6)
        assert producer.terminate() == 0, producer.said
    assert place.consume("--until-empty", LINGER="100ms").wait() == 0
    found = rows(place.folder / "data" / "prices", ";")
    assert [row["at"][17:19] for row in found][:4] == ["01", "02", "04", "05"]
    assert [row["price"] for row in found][:4] == ["101", "102", "104", "105"]
    assert place.books("prices").dead == 1
