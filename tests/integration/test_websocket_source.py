"""The websocket source: what it says, what it puts up with, where it is led, and that it stops when it is told to."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import secrets
import socket
import threading
import traceback
from itertools import islice
from typing import Any

import pytest
import redis
from pydantic import ValidationError
from structlog.testing import capture_logs
from websockets.sync.server import ServerConnection

from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.errors import SourceError, SourceRefused, SourceUnavailable
from millrace_pipeline.process.repeats import Repeats
from millrace_producer.sources import websocket
from millrace_producer.sources.websocket import WebsocketSource
from tests.conftest import eventually
from tests.integration.api_server import Answer, ApiServer
from tests.integration.socket_server import MuteServer, SocketServer, break_off, query_of
from tests.integration.test_private_addresses import NAMES_OF_LOOPBACK
from tests.services import QUICKLY, Place, on_the_list

SECRET = "s3cret"
FAST: dict[str, Any] = {"max_failures": 3, "backoff_initial": 0.01, "backoff_max": 0.1, "end_at_close": True}


def source(url: str, **options: Any) -> WebsocketSource:
    return WebsocketSource(url=url, **{**FAST, **options})


def came(source: WebsocketSource, count: int | None = None) -> list[Any]:
    """The data of the records; of the first `count` of a source that goes on and on."""
    reading = source.read(None)
    records = list(islice(reading, count))
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert all(isinstance(record, Record) for record in records), records
    return [record.data for record in records if isinstance(record, Record)]


def saying(*messages: str | bytes) -> Any:
    def talk(client: ServerConnection) -> None:
        for message in messages:
            client.send(message)

    return talk


def test_what_it_wants_to_hear_about_is_said_first_at_every_connection() -> None:
    heard: list[Any] = []

    def talk(client: ServerConnection) -> None:
        heard.append([client.recv(timeout=30), client.recv(timeout=30)])
        client.send("1")
        break_off(client)

    with SocketServer(talk) as server:
        subscribe = [{"op": "subscribe", "to": ["a", "é"]}, "plain text"]
        assert came(source(server.url, subscribe=subscribe), 2) == [b"1", b"1"]
    assert [[json.loads(said[0]), said[1]] for said in heard[:2]] == [subscribe] * 2


@pytest.mark.parametrize(("said", "heard"), [("ping", "ping"), ({"op": "ping"}, '{"op":"ping"}')])
def test_what_a_server_wants_to_hear_is_said_again_also_to_who_is_held_back(said: Any, heard: str) -> None:
    came_in: list[str | bytes] = []
    enough = threading.Event()

    def talk(client: ServerConnection) -> None:
        client.send("1")
        client.send("2")
        while len(came_in) < 3:
            came_in.append(client.recv(timeout=30))
        enough.set()

    with SocketServer(talk) as server:
        reading = source(server.url, ping_message=said, ping_message_interval=0.05).read(None)
        next(iter(reading))
        assert enough.wait(30)  # nobody asks for the next one meanwhile
        assert [record.data for record in reading if isinstance(record, Record)] == [b"2"]
    assert came_in == [heard] * 3
    assert not [thread for thread in threading.enumerate() if thread.name == "say again" and eventually_ended(thread)]


def eventually_ended(thread: threading.Thread) -> bool:
    thread.join(10)
    return thread.is_alive()


def test_answers_and_heartbeats_are_no_records_where_they_are_to_be_ignored() -> None:
    messages = [
        "pong",
        '{"event": "heartbeat"}',
        '{"result": null, "id": 1}',
        '{"event": "trade"}',
        '{"id": true}',
        "x",
    ]
    ignore: list[Any] = ["pong", {"event": "heartbeat"}, {"/id": 1}]
    with SocketServer(saying(*messages)) as server:
        first, second, letter = source(server.url, ignore=ignore).read(None)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.data, second.data) == (b'{"event": "trade"}', b'{"id": true}')
    assert isinstance(letter, DeadLetter)


def test_subprotocols_are_offered() -> None:
    with SocketServer(saying("1")) as server:
        assert came(source(server.url, subprotocols=["graphql-transport-ws", "other"])) == [b"1"]
        assert server.asked[0].headers["sec-websocket-protocol"] == "graphql-transport-ws, other"


@pytest.mark.parametrize(
    ("options", "why"),
    [({"ignore": [""]}, "every message, or none"), ({"ping_message_interval": 5}, "there is none")],
)
def test_an_option_that_can_have_no_meaning_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        source("ws://a.example", **options)


def test_text_and_binary_messages_are_treated_alike_and_stay_byte_for_byte() -> None:
    messages = ['{ "n": 18446744073709551616 }', b"1.0000000000000000000001", '"é"', ["1", "2"]]
    with SocketServer(saying(*messages)) as server:
        assert came(source(server.url)) == [b'{ "n": 18446744073709551616 }', messages[1], '"é"'.encode(), b"12"]


def test_as_text_a_message_becomes_a_string_and_what_is_none_a_dead_letter() -> None:
    with SocketServer(saying("é", b"caf\xe9", "1")) as server:
        first, letter, last = source(server.url, format="text").read(None)
    assert (first, last) == (Record("é"), Record("1"))
    assert isinstance(letter, DeadLetter)
    assert letter.original == b"caf\xe9"


def test_the_key_and_the_time_are_where_the_pointers_say() -> None:
    with SocketServer(saying('{"id": 7, "at": 1700000000}')) as server:
        (record,) = source(server.url, key="/id", time="/at").read(None)
    assert isinstance(record, Record)
    assert record.key == "7"
    assert record.time is not None
    assert record.time.timestamp() == 1_700_000_000


def test_a_server_is_asked_to_go_on_after_the_last_message_at_every_connection() -> None:
    def talk(client: ServerConnection) -> None:
        begin = int(query_of(client).get("cursor", 0)) + 1
        for number in range(begin, begin + 2):
            client.send(json.dumps({"at": number}))
        client.send("{}")  # has no place
        break_off(client)

    with SocketServer(talk) as server:
        resume = {"field": "/at", "parameter": "cursor"}
        records = list(islice(source(server.url + "/?x=1", resume=resume).read(None), 6))
        assert [record.position for record in records] == [1, 2, 2, 3, 4, 4]
        assert [asked.query for asked in server.asked[:2]] == [{"x": "1"}, {"x": "1", "cursor": "2"}]


def test_its_url_is_edited_at_a_reconnect_and_not_rebuilt() -> None:
    with SocketServer() as server:
        server.talk = lambda client: (client.send('{"at": 5}'), break_off(client))  # type: ignore[assignment, func-returns-value]
        url = server.url + "/x;v=1?wanted=a&wanted=b&cursor=1&name=%E9&flag&c=d+e%20f&;"
        resume = {"field": "/at", "parameter": "cursor"}
        assert len(list(islice(source(url, resume=resume).read(None), 2))) == 2
        first, again = (asked.target for asked in server.asked[:2])
        assert first == "/x;v=1?wanted=a&wanted=b&cursor=1&name=%E9&flag&c=d+e%20f&;"
        assert again == first.replace("cursor=1", "cursor=5")


def test_a_resume_field_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "repeats", Repeats())
    with SocketServer(saying('{"n": 1}', '{"n": 2}')) as server, capture_logs() as logs:
        assert len(came(source(server.url, resume={"field": "/seq", "parameter": "after"}))) == 2
    assert [log["field"] for log in logs if log["event"] == "message_without_position"] == ["/seq"]


def test_a_message_that_is_too_large_is_dropped_and_listening_goes_on() -> None:
    with SocketServer(saying('"after"')) as server, capture_logs() as logs:
        server.script.append(saying('"before"', json.dumps("x" * 2000), '"lost with it"'))
        assert came(source(server.url, max_message_bytes=1000)) == [b'"before"', b'"after"']
    (log,) = [log for log in logs if log["event"] == "websocket_message_too_large"]
    assert log["limit"] == 1000


def test_a_server_that_is_silent_but_there_is_waited_for() -> None:
    pinged = threading.Event()

    def talk(client: ServerConnection) -> None:
        pinged.wait(60)
        client.send("1")

    with SocketServer(talk) as server:
        found: list[Any] = []
        options = {"ping_interval": 0.05, "ping_timeout": 60}
        listening = threading.Thread(target=lambda: found.extend(came(source(server.url, **options))), daemon=True)
        listening.start()
        eventually(lambda: any(client.pings > 2 for client in list(server.clients)))
        pinged.set()
        listening.join(30)
        assert found == [b"1"]
        assert len(server.asked) == 1


def test_a_server_that_answers_no_ping_is_connected_to_anew() -> None:
    with MuteServer() as server:
        with pytest.raises(SourceUnavailable, match="answers no ping"):
            came(source(server.url, ping_interval=0.05, ping_timeout=0.05))
        assert len(server.clients) == 3


def test_silence_is_no_failure_to_a_listener_that_is_held_back() -> None:
    """While nobody reads, an answer to a ping could not be heard: so none is sent then."""

    def talk(client: ServerConnection) -> None:
        for _ in range(5000):
            client.send("1" * 1000)
        over.wait(60)

    over = threading.Event()
    with SocketServer(talk) as server:
        reading = source(server.url, ping_interval=0.05, ping_timeout=60).read(None)
        next(reading)
        (client,) = list(server.clients)
        over.wait(0.5)  # the time in which pings would be sent and missed
        assert client.pings == 0
        assert len(list(islice(reading, 4999))) == 4999
        assert len(server.asked) == 1
        over.set()
        reading.close()  # type: ignore[attr-defined]  # a generator


def test_what_a_server_said_before_it_left_is_heard_though_it_is_asked_whether_it_is_there() -> None:
    """The goodbye has been received, and is behind thousands of messages, when there is a pause long enough to ask."""
    with SocketServer(saying(*["1" * 100] * 20_000)) as server:
        assert len(came(source(server.url, ping_interval=0.001, ping_timeout=60))) == 20_000


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 426])
def test_a_no_is_refused_at_once(status: int) -> None:
    with SocketServer() as server:
        server.refuse.append((status, {}))
        with pytest.raises(SourceRefused, match=str(status)):
            came(source(server.url))
        assert len(server.asked) == 1


def test_a_page_is_no_websocket() -> None:
    with ApiServer(lambda asked: Answer(200)) as server, pytest.raises(SourceRefused, match="200 OK, expected a WebS"):
        came(source(server.url.replace("http", "ws")))


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_server_that_fails_too_often_in_a_row_is_unavailable(status: int) -> None:
    with SocketServer() as server:
        server.refuse.extend([(status, {})] * 4)
        with pytest.raises(SourceUnavailable, match=str(status)):
            came(source(server.url, max_failures=4))
        assert len(server.asked) == 4


def test_a_long_wait_is_left_to_the_producer() -> None:
    with SocketServer() as server:
        server.refuse.append((429, {"Retry-After": "3600"}))
        with pytest.raises(SourceUnavailable) as unavailable:
            came(source(server.url))
        assert (unavailable.value.retry_after, len(server.asked)) == (3600, 1)


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4001])
def test_whatever_the_server_closes_with_it_is_connected_to_anew(code: int) -> None:
    def talk(client: ServerConnection) -> None:
        client.send("1")
        client.close(code, SECRET)

    with SocketServer(talk) as server:
        assert came(source(server.url, end_at_close=False), 3) == [b"1"] * 3


def test_a_server_that_closes_again_and_again_without_a_message_is_unavailable() -> None:
    with SocketServer() as server, pytest.raises(SourceUnavailable, match="closed by the server with 1000"):
        came(source(server.url, end_at_close=False))


def test_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnavailable, match="refused"):
        came(source(f"ws://127.0.0.1:{port}/"))


AUTHS: dict[str, dict[str, str]] = {
    "bearer": {"type": "bearer", "token": SECRET},
    "header": {"type": "header", "name": "X-Api-Key", "value": SECRET},
    "query": {"type": "query", "name": "api_key", "value": SECRET},
}


@pytest.mark.parametrize("name", AUTHS)
def test_who_it_is_it_says_to_its_own_host_alone(name: str) -> None:
    with SocketServer(saying("1")) as other, SocketServer() as server:
        server.refuse.append((302, {"Location": other.url.replace("ws://", "http://") + "/there"}))
        options = {"auth": AUTHS[name], "headers": {"X-Mine": SECRET}, "allow_private": True}
        assert came(source(server.url, **options)) == [b"1"]
        (home,), (away,) = server.asked, other.asked
    assert SECRET in str(home)
    assert home.headers["x-mine"] == SECRET
    assert SECRET not in str(away)
    assert away.path == "/there"


def test_a_redirect_within_the_host_is_followed_with_all_that_belongs_to_it() -> None:
    def talk(client: ServerConnection) -> None:
        client.send(client.recv(timeout=30))

    with SocketServer(talk) as server:
        server.refuse.append((307, {"Location": "/there"}))
        assert came(source(server.url, auth=AUTHS["bearer"], subscribe=["1"])) == [b"1"]
        assert server.asked[1].path == "/there"
        assert SECRET in server.asked[1].headers["authorization"]


def test_what_is_said_by_subscribe_is_not_told_to_another_host() -> None:
    with SocketServer() as other, SocketServer() as server:
        server.refuse.append((302, {"Location": other.url}))
        with pytest.raises(SourceRefused, match="subscribe"):
            came(source(server.url, subscribe=[SECRET], allow_private=True))
        assert other.asked == []


@pytest.mark.parametrize("name", NAMES_OF_LOOPBACK)
def test_it_is_not_led_to_a_private_address(name: str) -> None:
    with SocketServer() as inside, SocketServer() as server:
        server.refuse.append((302, {"Location": inside.url.replace("127.0.0.1", name) + f"/?token={SECRET}"}))
        with pytest.raises(SourceRefused, match=r"private address.*allow_private") as refused:
            came(source(server.url))
        assert inside.asked == []
        assert SECRET not in str(refused.value)


def test_too_many_redirects_are_refused() -> None:
    with SocketServer() as server:
        server.refuse.extend([(302, {"Location": "/"})] * 9)
        with pytest.raises(SourceRefused, match="more than 2 redirects"):
            came(source(server.url, max_redirects=2))


TALKS: dict[str, Any] = {
    "a refusal": [(403, {})],
    "failures": [(500, {})] * 3,
    "a redirect": [(302, {"Location": f"/there?token={SECRET}"}), (403, {})],
    "a redirect with a password": [(302, {"Location": f"ws://u:{SECRET}@no-such-host.invalid/x?{SECRET}"})],
    "a redirect to nowhere": [(302, {"Location": f"ftp://{SECRET}/"})],
    "closed with a reason": [],
}


@pytest.mark.parametrize("name", TALKS)
def test_no_secret_is_logged_raised_or_printed(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    raised: SourceError | None = None
    with SocketServer(lambda client: client.close(4001, SECRET)) as server, capture_logs() as logs:
        server.refuse.extend(TALKS[name])
        subscribe = [] if "redirect" in name else [{"token": SECRET}]
        options = {"headers": {"X-Mine": SECRET}, "auth": AUTHS["query"], "subscribe": subscribe, "connect_timeout": 5}
        listening = source(f"{server.url}/?token={SECRET}", **options)
        try:
            came(listening)
        except SourceError as error:
            raised = error
        assert server.asked[0].query == {"token": SECRET, "api_key": SECRET}
        assert server.asked[0].headers["x-mine"] == SECRET
    assert raised is not None
    assert (raised.__cause__, raised.__context__) == (None, None)
    told = "".join(traceback.format_exception(raised)) + repr(logs) + caplog.text + repr(listening)
    printed = capfd.readouterr()
    assert SECRET not in told + printed.out + printed.err
    assert server.url in told, "the place is named all the same"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "http://host/"}, "expected a URL"),
        ({"url": f"ws://me:{SECRET}@host/"}, "auth"),
        ({"url": "ws://host/#a"}, "expected a URL"),
        ({"format": "text", "key": "/id"}, "format is text"),
        ({"format": "text", "resume": {"field": "/id", "parameter": "a"}}, "format is text"),
    ],
)
def test_options_that_can_not_work_are_refused_without_showing_a_secret(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        WebsocketSource(**{"url": "ws://host/", **options})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("position", [{}, [], True])
def test_a_checkpoint_of_another_source_is_refused(position: object) -> None:
    with pytest.raises(SourceRefused, match="checkpoint"):
        list(source("ws://127.0.0.1:9/").read(position))


def endless(client: ServerConnection) -> None:
    """Numbers from a cursor on, for ever."""
    for number in itertools.count(int(query_of(client).get("cursor", -1)) + 1):
        client.send(json.dumps({"n": number, "filler": "x" * 200}))


def test_killed_again_and_again_every_message_of_a_server_that_can_go_back_is_on_the_list_once(
    place: Place, client: redis.Redis
) -> None:
    with SocketServer(endless) as server:
        resume = {"field": "/n", "parameter": "cursor"}
        place.flow(source={"type": "websocket", "url": server.url, "resume": resume})
        for _ in range(2):
            before = client.llen(place.key_of())
            producer = place.produce()
            producer.until(lambda before=before: client.llen(place.key_of()) > before + 50)  # type: ignore[misc]
            producer.kill()
    numbers = [record["n"] for record in on_the_list(client, place.key_of())]
    assert numbers == list(range(len(numbers)))


def test_sigterm_while_the_server_is_silent_ends_at_once(place: Place, client: redis.Redis) -> None:
    def talk(client: ServerConnection) -> None:
        client.send('{"n": 1}')
        server.silence(client)

    with SocketServer(talk) as server:
        place.flow(source={"type": "websocket", "url": server.url})
        producer = place.produce()
        producer.until(lambda: client.llen(place.key_of()) == 1)
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_a_full_list_holds_the_server_back(place: Place, client: redis.Redis) -> None:
    sent = itertools.count()
    last = [0]

    def talk(client: ServerConnection) -> None:
        while True:
            last[0] = next(sent)
            client.send(json.dumps({"n": last[0], "filler": secrets.token_hex(20_000)}))

    with SocketServer(talk) as server:
        place.flow(source={"type": "websocket", "url": server.url}, queue={"max_ready": 50})
        producer = place.produce()
        producer.await_event("producer_held_back")
        # What the list, our buffers and those of two kernels take is far from what is sent where nobody holds back.
        still = [-1]

        def stands() -> bool:
            before, still[0] = still[0], last[0]
            pause.wait(0.5)
            return before == still[0]

        pause = threading.Event()
        eventually(stands, 60)
        assert client.llen(place.key_of()) < 100
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_the_example_takes_posts_in_and_leaves_all_else_out(place: Place) -> None:
    def event(number: int, operation: str = "create") -> str:
        record = {"createdAt": "2026-11-21T10:00:00Z", "text": f"post {number}", "langs": ["en"]}
        commit = {"operation": operation, "cid": f"cid-{number}", "record": record}
        return json.dumps({"kind": "commit", "did": "did:plc:me", "time_us": number, "commit": commit})

    def talk(client: ServerConnection) -> None:
        assert query_of(client)["wantedCollections"] == "app.bsky.feed.post"
        begin = int(query_of(client).get("cursor", 1))  # the last one comes again, as Jetstream has it
        for number in range(begin, begin + 40):
            client.send(event(number, "delete" if number % 5 == 0 else "create"))
        client.send(json.dumps({"kind": "identity", "did": "did:plc:me", "time_us": begin + 39}))
        break_off(client)

    with SocketServer(talk) as server:
        place.example("websocket")
        producer = place.produce("posts", JETSTREAM=server.url + "/subscribe")
        producer.until(lambda: place.books("posts").published >= 60)
        assert producer.terminate(QUICKLY) == 0, producer.said
    place.deliver_the_rest()
    files = (place.folder / "data" / "posts").rglob("*.jsonl")
    texts = [json.loads(line)["text"] for path in files for line in path.read_text().splitlines()]
    assert len(set(texts)) == len(texts) > 32
    assert not any(text.endswith(("0", "5")) for text in texts)


def test_who_hangs_up_on_the_handshake_is_asked_again_whenever_that_was() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hung_up = 0

        def hang_up() -> None:
            nonlocal hung_up
            with contextlib.suppress(OSError):  # the listener is gone
                while True:
                    listener.accept()[0].close()
                    hung_up += 1

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        source = WebsocketSource(url=url, backoff_initial="1ms", backoff_max="1ms", max_failures=200)
        with pytest.raises(SourceUnavailable):  # which moment it is told at is luck, so it is tried often
            next(iter(source.read(None)))
        listener.shutdown(socket.SHUT_RDWR)
    assert hung_up == 200
