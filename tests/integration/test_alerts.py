"""Alerts: told once when they begin and once when they are over, from whichever process watches."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.roles import CONSUMER, PRODUCER
from tests.conftest import eventually
from tests.services import Place


class Hook:
    """A webhook that keeps what it is told; `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.told: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if hook.status == 200:
                    hook.told.append(json.loads(body))
                self.send_response(hook.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/T0/SECRETPATH"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def states(self, alert: str) -> list[str]:
        return [notice["state"] for notice in self.told if notice["alert"] == alert]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def die(place: Place, *reasons: str) -> None:
    with place.queue() as queue:
        queue.publish([], dead=[DeadLetter(b"x", reason) for reason in reasons])


def mend(place: Place) -> None:
    with place.queue() as queue:
        letters = DeadLetters(queue)
        for letter in list(letters.newest()):
            letters.drop(letter)


def alerting(place: Place, hook: Hook, *alerts: dict[str, Any], **options: Any) -> None:
    place.flow(alerts=list(alerts), notify={"webhook": hook.url, "secret": "sesame"}, **options)


def test_dead_letters_are_told_once_and_once_that_they_are_gone(place: Place, hook: Hook) -> None:
    alerting(place, hook, {"dead": ">1"})
    place.consume()
    die(place, "a")
    die(place, "b")
    eventually(lambda: hook.states("dead") == ["raised"], 60)
    die(place, "c")
    mend(place)
    eventually(lambda: hook.states("dead") == ["raised", "over"], 60)
    begun, over = hook.told
    assert begun["id"] == over["id"]
    assert (begun["flow"], begun["rule"], begun["threshold"], begun["unit"]) == ("numbers", "dead >1", 1, "records")
    assert begun["value"] == 2
    assert begun["text"].startswith("numbers: 2 dead letters (>1) since 20")
    headers, body = hook.asked[0]
    moment, signed = (part.partition("=")[2] for part in headers["millrace-signature"].split(","))
    assert signed == hmac.new(b"sesame", moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["idempotency-key"] == f"{begun['id']}/raised"


def test_age_is_told_after_it_has_lasted_and_over_when_it_is_delivered(place: Place, hook: Hook) -> None:
    alerting(place, hook, {"age": ">1s for 1s"}, sink={"type": "theirs:Stuck"})
    place.module(
        "from pathlib import Path\nfrom millrace import Sink, SinkUnavailable\n"
        "class Stuck(Sink):\n    def write(self, batch):\n"
        "        if not Path('open').exists():\n            raise SinkUnavailable('it is shut')\n"
    )
    place.consume()
    place.publish([1])
    eventually(lambda: hook.states("age") == ["raised"], 60)
    assert hook.told[0]["value"] > 1
    (place.folder / "open").touch()
    eventually(lambda: hook.states("age") == ["raised", "over"], 60)


def test_silence_is_told_also_where_others_push(place: Place, hook: Hook, client: redis.Redis) -> None:
    alerting(place, hook, {"silent": "2s"}, source={"type": "external"})
    place.consume()
    eventually(lambda: hook.states("silent") == ["raised"], 60)
    client.lpush(place.key_of(), '{"by": "hand"}')
    eventually(lambda: hook.states("silent")[:2] == ["raised", "over"], 60)


def test_a_full_list_is_told(place: Place, hook: Hook) -> None:
    alerting(place, hook, {"held_back": "1s"}, queue={"max_ready": 5}, source={"type": "stdin"})
    place.produce(stdin=subprocess.PIPE)
    place.publish(range(5))
    eventually(lambda: hook.states("held_back") == ["raised"], 60)
    place.deliver_the_rest()
    eventually(lambda: hook.states("held_back") == ["raised", "over"], 60)


def test_a_field_without_values_is_told_by_its_share(place: Place, hook: Hook) -> None:
    share = {"field": "/price", "above": "20%", "over": "60s", "at_least": 8}
    alerting(place, hook, {"null_share": share}, batch={"records": 10, "linger": "200ms"})
    place.consume()
    place.publish(range(10))
    eventually(lambda: hook.states("null_share") == ["raised"], 60)
    assert (hook.told[0]["value"], hook.told[0]["unit"]) == (1.0, "share")
    assert "100.0% of the records have no /price" in hook.told[0]["text"]


def test_who_takes_over_repeats_nothing_and_forgets_nothing(place: Place, hook: Hook, client: redis.Redis) -> None:
    alerting(place, hook, {"dead": ">0"})
    first, second = place.consume(), place.consume()
    die(place, "a")
    eventually(lambda: hook.states("dead") == ["raised"], 60)
    key = Keys(place.key_of()).alerts
    eventually(lambda: not any(b"notice:" in field for field in client.hkeys(key)))
    name = client.hget(key, "name").decode()  # type: ignore[union-attr]
    watcher = first if name.endswith(f":{first.pid}") else second
    watcher.kill()
    eventually(lambda: client.hget(key, "name").decode() != name, 60)  # type: ignore[union-attr]
    place.consume()
    mend(place)
    eventually(lambda: hook.states("dead") == ["raised", "over"], 60)
    assert len({notice["id"] for notice in hook.told}) == 1


def test_what_a_killed_watcher_could_not_tell_the_next_one_tells(place: Place, hook: Hook) -> None:
    hook.status = 503
    alerting(place, hook, {"dead": ">0"})
    first = place.consume()
    die(place, "a")
    eventually(lambda: hook.asked, 60)
    first.kill()
    mend(place)
    hook.status = 200
    place.consume()
    eventually(lambda: hook.states("dead") == ["raised", "over"], 60)
    place.publish([1])
    eventually(lambda: place.books().delivered == 1, 60)


def test_a_webhook_that_is_down_holds_nothing_back_and_keeps_its_secret(place: Place, hook: Hook) -> None:
    hook.status = 500
    alerting(place, hook, {"dead": ">0"})
    consumer = place.consume(MILLRACE_LOG_LEVEL="debug")
    die(place, "a")
    consumer.await_event("alert_not_told")
    place.publish(range(20))
    consumer.until(lambda: place.books().delivered == 20)
    hook.status = 200
    eventually(lambda: hook.states("dead") == ["raised"], 60)
    assert consumer.terminate() == 0
    assert "SECRETPATH" not in consumer.said
    assert "sesame" not in consumer.said
    assert consumer.events("alert_raised", alert="dead >0")


def test_a_command_gets_the_notice_and_is_run_again_where_it_failed(place: Place) -> None:
    script = place.folder / "tell.sh"
    script.write_text(
        '#!/bin/sh\n[ -e failed ] || { touch failed; exit 3; }\ncat >> told; echo "$MILLRACE_ALERT_STATE" >> states\n'
    )
    script.chmod(0o755)
    place.flow(alerts=[{"dead": ">0"}], notify={"command": [str(script)]})
    consumer = place.consume()
    die(place, "a")
    consumer.until(lambda: (place.folder / "states").exists())
    assert (place.folder / "states").read_text() == "raised\n"
    assert json.loads((place.folder / "told").read_text())["alert"] == "dead"
    assert "ended with exit code 3" in consumer.await_event("alert_not_told")["reason"]


def test_an_outage_of_redis_is_told_by_a_process_that_lives(tmp_path: Path, hook: Hook) -> None:
    with Embedded(aof=True, data_dir=tmp_path / "data") as server, Place(tmp_path, server.url, "k") as place:
        alerting(place, hook, {"outage": "1s"}, {"dead": ">0"})
        consumers = [place.consume(), place.consume()]
        with redis.Redis.from_url(server.url) as client:
            eventually(lambda: client.hget(Keys(place.key_of()).alerts, "name"), 60)
            for consumer in consumers:  # each has heard who watches
                consumer.until(lambda: client.hget(Keys(place.key_of()).consumers, f"{place.key_of()}") is None)
        die(place, "a")
        eventually(lambda: hook.states("dead") == ["raised"], 60)
        server.kill()
        eventually(lambda: hook.states("outage") == ["raised"], 60)
        server.start()
        eventually(lambda: hook.states("outage") == ["raised", "over"], 60)
        mend(place)
        eventually(lambda: hook.states("dead") == ["raised", "over"], 60)


def test_a_producer_alone_watches_with_its_own_rights(tmp_path: Path, hook: Hook) -> None:
    with Embedded() as server, redis.Redis.from_url(server.url) as admin:
        for name, role in (("producer", PRODUCER), ("consumer", CONSUMER)):
            admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *role.rules(["k-numbers"]).split())
        with Place(tmp_path, server.url, "k") as place:
            age, share = {"age": ">1s"}, {"null_share": {"field": "price", "above": "50%", "at_least": 1}}
            alerting(place, hook, age, {"silent": "1s"}, {"dead": ">0"}, share, source={"type": "stdin"})
            place.publish([1])
            url = server.url.replace("://", "://producer:secret@")
            producer = place.produce(REDIS_URL=url, stdin=subprocess.PIPE)
            eventually(lambda: hook.states("age") == hook.states("silent") == ["raised"], 60)
            assert not producer.events("alerts_not_watched")
            eventually(lambda: not any(b"notice:" in field for field in admin.hkeys("{k-numbers}:alerts")))
            producer.kill()
            consumer = place.consume(REDIS_URL=server.url.replace("://", "://consumer:secret@"))
            eventually(lambda: hook.states("age") == ["raised", "over"], 60)
            eventually(lambda: hook.states("null_share") == ["raised"], 60)
            assert not consumer.events("alerts_not_watched")


def test_the_command_lists_them_and_sends_a_test(place: Place, hook: Hook) -> None:
    alerting(place, hook, {"dead": ">0"}, {"age": ">10m for 5m"})
    place.flow("quiet")
    shown = place.start("alerts")
    assert shown.wait() == 0, shown.said
    assert shown.printed.count("not watched") == 2
    place.consume("numbers")
    die(place, "a")
    eventually(lambda: hook.states("dead") == ["raised"], 60)
    shown = place.start("alerts", "numbers", "--json")
    assert shown.wait() == 0, shown.said
    dead, age = json.loads(shown.printed)
    assert (dead["alert"], dead["state"], dead["value"]) == ("dead >0", "raised", 1)
    assert (age["alert"], age["state"]) == ("age >10m for 5m", "well")
    tested = place.start("alerts", "test", "numbers")
    assert tested.wait() == 0, tested.said
    assert tested.printed == "webhook: told\n"
    assert hook.told[-1]["state"] == "test"
    hook.status = 404
    refused = place.start("alerts", "test", "numbers")
    assert refused.wait() == 1
    assert "webhook: not told: the webhook at 127.0.0.1:" in refused.printed
    assert "SECRETPATH" not in refused.printed + refused.said
    none = place.start("alerts", "test", "quiet")
    assert none.wait() == 2
    assert "flow quiet has no alerts" in none.said


def test_a_short_run_tells_what_it_leaves_behind(place: Place, hook: Hook) -> None:
    alerting(place, hook, {"dead": ">0"}, transforms=["theirs:fail"])
    place.module("def fail(record):\n    raise ValueError('no')\n")
    place.publish([1])
    place.deliver_the_rest()
    assert hook.states("dead") == ["raised"]


def test_sigterm_hands_the_watch_over_at_once(place: Place, hook: Hook, client: redis.Redis) -> None:
    alerting(place, hook, {"dead": ">0"})
    first = place.consume()
    key = Keys(place.key_of()).alerts
    first.until(lambda: client.hget(key, "name"))
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    assert int(client.hget(key, "until") or 0) <= int(client.time()[0] * 1000 + 999)  # type: ignore[arg-type]
