"""The examples that read from the web, each against a server that answers as the real one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.api_server import Answer, ApiServer, Asked, json_answer
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
