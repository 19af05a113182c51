"""The examples that read from the web, each against a server that answers as the real one does."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from websockets.sync.server import ServerConnection

from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
from tests.integration.socket_server import SocketServer
from tests.integration.sse_server import OK, ScriptedServer
from tests.services import Place


def lines(folder: Path) -> list[Any]:
    """Every record of every file."""
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_github_is_read_by_its_links_while_issues_change(place: Place) -> None:
    issues = {number: f"2026-11-01T{number // 60:02}:{number % 60:02}:00Z" for number in range(250)}
    ended: list[bool] = []

    with ApiServer() as server:

        def route(asked: Asked) -> Answer:
            page, since = int(asked.query.get("page", 1)), asked.query["since"]
            if page > 1 or len(server.asked) == 2:
                issues[3] = issues[7] = "2026-11-02T00:00:00Z"
            found = [
                {"id": number, "updated_at": at, "title": f"žluť {number}"}
                for number, at in sorted(issues.items(), key=lambda row: (row[1], row[0]))
                if at >= since
            ]
            links = [f'<{server.url}{asked.path}?page=1&since={since}>; rel="first"']
            if page * 100 < len(found):
                links.insert(0, f'<{server.url}{asked.path}?page={page + 1}&since={since}>; rel="next"')
            else:
                ended.append(True)
            return json_answer(found[page * 100 - 100 : page * 100], Link=", ".join(links))

        server.route = route
        place.example("rest")
        producer = place.produce("issues", GITHUB=server.url, EVERY="1h")
        producer.until(lambda: bool(ended) and place.books("issues").published >= 252)
        producer.terminate()
    place.deliver_the_rest()
    came = [(issue["id"], issue["updated_at"]) for issue in lines(place.folder / "data" / "issues")]
    assert set(issues.items()) <= set(came)
    assert len(came) == len(set(came)) == 252


def test_graphql_is_read_to_its_last_page(place: Place) -> None:
    nodes = [{"id": f"D_{number}", "number": number, "updatedAt": "2026-11-01T00:00:00Z"} for number in range(250)]

    def route(asked: Asked) -> Answer:
        assert asked.path == "/graphql"
        assert asked.headers["authorization"] == "Bearer s3cret"
        begin = int(json.loads(asked.body)["variables"]["after"] or 0)
        info = {"hasNextPage": begin + 100 < 250, "endCursor": str(begin + 100)}
        discussions = {"nodes": nodes[begin : begin + 100], "pageInfo": info}
        return json_answer({"data": {"repository": {"discussions": discussions}}})

    with ApiServer(route) as server:
        server.script.append(json_answer({"data": None, "errors": [{"type": "RATE_LIMITED"}]}))
        place.example("graphql")
        producer = place.produce("discussions", GITHUB=server.url, GITHUB_TOKEN="s3cret")
        assert producer.wait() == 0, producer.said
    place.deliver_the_rest()
    assert lines(place.folder / "data" / "discussions") == nodes


MASTODON = (
    b":)\n\n"
    b'event: update\ndata: {"id":"1","created_at":"2026-11-01T10:00:00.000Z","content":"<p>\xc5\xbeivot</p>"}\n\n'
    b":thump\n\n"
    b"event: delete\ndata: 1\n\n"
    b"event: notification\ndata: {}\n\n"
    b'event: status.update\ndata: {"id":"2","created_at":"2026-11-01T10:00:01.000Z"}\n\n'
)


def test_mastodon_gives_what_is_said_and_what_is_deleted_each_by_its_name(place: Place) -> None:
    with ScriptedServer(OK + MASTODON) as server:
        place.example("mastodon")
        producer = place.produce("toots", MASTODON=server.url.removesuffix("/events"), MASTODON_TOKEN="s3cret")
        assert producer.wait() == 0, producer.said
        assert server.asked[0].headers["authorization"] == "Bearer s3cret"
    place.deliver_the_rest()
    toots = lines(place.folder / "data" / "toots")
    assert [(toot["event"], toot.get("id", toot.get("value"))) for toot in toots] == [
        ("update", "1"),
        ("delete", 1),
        ("status.update", "2"),
    ]
    assert place.books("toots").dead == 0


def feature(number: int, *, mag: float | None = 1.5, updated: int = 0) -> dict[str, Any]:
    """An earthquake as the feed has it; one is a day later than the one before."""
    time = 1514764800000 + number * 86_400_000
    about = {"mag": mag, "place": "10 km W of Žižkov", "time": time, "updated": time + updated, "tz": None, "type": "q"}
    where = {"type": "Point", "coordinates": [-116.8, 33.5, None if number == 2 else 8.1]}
    return {"type": "Feature", "properties": about, "geometry": where, "id": f"ci{number}"}


def geojson(features: list[dict[str, Any]]) -> dict[str, Any]:
    about = {"generated": 1514764800000, "title": "USGS All Earthquakes, Past Day", "status": 200}
    return {"type": "FeatureCollection", "metadata": about, "features": features, "bbox": [-116.8, 33.5, 0]}


def test_quakes_of_a_geojson_feed_are_rows_that_are_revised(place: Place) -> None:
    feeds = [[feature(0), feature(1, mag=None), feature(2)], [feature(1, mag=4.2, updated=1), feature(2)]]

    def route(asked: Asked) -> Answer:
        assert asked.path == "/earthquakes/feed/v1.0/summary/all_day.geojson"
        number = 1 if asked.headers.get("if-none-match") or len(feeds) == 1 else 0
        if asked.headers.get("if-none-match") == '"1"':
            return Answer(304)
        return json_answer(geojson(feeds[number]), ETag=f'"{number}"')

    with ApiServer(route) as server:
        place.example("usgs")
        producer = place.produce("quakes", USGS=server.url, EVERY="100ms")
        producer.until(lambda: len(server.asked) > 3 and place.books("quakes").published == 5)
        assert producer.terminate() == 0
    assert place.consume("quakes", "--until-empty").wait() == 0
    rows = sqlite3.connect(place.folder / "data" / "quakes.db").execute("SELECT id, magnitude, depth, at FROM quakes")
    assert sorted(rows) == [
        ("ci0", 1.5, 8.1, "2018-01-01T00:00:00.000000Z"),
        ("ci1", 4.2, 8.1, "2018-01-02T00:00:00.000000Z"),
        ("ci2", 1.5, None, "2018-01-03T00:00:00.000000Z"),
    ]


def test_an_archive_of_geojson_goes_to_the_days_of_its_quakes(place: Place) -> None:
    place.example("usgs")
    (place.folder / "archive").mkdir()
    quakes = [feature(number) for number in range(3)]
    (place.folder / "archive" / "2018-01.geojson").write_text(json.dumps(geojson(quakes)))
    assert place.produce("archive", MODE="once").wait() == 0
    assert place.consume("archive", "--until-empty").wait() == 0
    found = ds.dataset(place.folder / "data" / "archive", partitioning="hive").to_table().to_pylist()
    assert sorted((row["id"], str(row["date"])) for row in found) == [
        ("ci0", "2018-01-01"),
        ("ci1", "2018-01-02"),
        ("ci2", "2018-01-03"),
    ]


def trade(number: int, price: str = "95000.10") -> str:
    """A trade in the exchange's own digits."""
    return (
        f'{{"symbol":"BTC/USD","side":"buy","price":{price},"qty":0.00000001,"ord_type":"limit","trade_id":{number},'
        f'"timestamp":"2026-11-01T10:00:00.{number:06}Z"}}'
    )


def trades(kind: str, *each: str) -> str:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(each)}]}}'


def test_an_exchange_is_pinged_and_its_trades_are_rows_however_often_they_are_said(place: Place) -> None:
    pinged, connections = threading.Event(), 0

    def talk(client: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        client.send('{"channel":"status","type":"update","data":[{"system":"online","version":"2.0.0"}]}')
        asked = json.loads(client.recv())
        assert (asked["method"], asked["params"]["symbol"]) == ("subscribe", ["BTC/USD", "ETH/USD"])
        for symbol in asked["params"]["symbol"]:
            answer = {"method": "subscribe", "result": {"channel": "trade", "symbol": symbol}, "success": True}
            client.send(json.dumps(answer))
        client.send(trades("snapshot", trade(1), trade(2)))
        client.send('{"channel":"heartbeat"}')
        if connections == 1:
            return  # it hangs up, as exchanges do once a day
        client.send('{"error":"Currency pair not supported DOGE/XXX","method":"subscribe","success":false}')
        client.send(trades("update", trade(3, "95000.123456789")))
        assert json.loads(client.recv()) == {"method": "ping"}
        client.send('{"method":"pong","time_in":"2026-11-01T10:00:01Z","time_out":"2026-11-01T10:00:01Z"}')
        client.send(trades("update", trade(4), trade(5)))
        pinged.set()
        server.closing.wait()

    with SocketServer(talk) as server:
        place.example("exchange")
        producer = place.produce("trades", EXCHANGE=server.url, PING="200ms")
        producer.until(lambda: pinged.is_set() and place.books("trades").published == 5)
        assert producer.terminate() == 0
    place.deliver_the_rest()
    rows = sqlite3.connect(place.folder / "data" / "trades.db").execute("SELECT trade_id, price, qty FROM trades")
    assert sorted(rows) == [(number, "95000.123456789" if number == 3 else "95000.1", "1E-8") for number in range(1, 6)]
    assert place.books("trades").dead == 1
