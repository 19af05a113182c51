"""`millrace ui`: what the pages of flows show, as they are asked for and live, and what it costs Redis."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from importlib.resources import files
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue.presence import Doing, beat
from millrace_pipeline.queue.roles import READER
from millrace_pipeline.queue.troubles import tell_trouble
from tests.conftest import eventually
from tests.integration.test_acl import version_of
from tests.pages import Ui, text_of
from tests.services import NOWHERE, Place

SLOW = "import time\n\ndef slow(batch):\n    time.sleep(0.2)\n"


def parts_of(ui: Ui, path: str, claim: Any) -> dict[str, str]:
    """The parts of a live page, put together, once the claim holds of them."""
    shown: dict[str, str] = {}
    for name, told in ui.events(path):
        if name == "parts":
            shown |= told["parts"]
            if claim(shown, told):
                return shown
    raise AssertionError("the stream ended")


def test_all_flows_are_there_with_the_counts_of_status(place: Place) -> None:
    place.flow("books")
    place.flow("quotes")
    place.publish(range(12), "books")
    page = text_of(Ui(place).page("/"))
    assert "books no consumer 12 0" in page
    assert "quotes idle 0 0" in page
    assert "Flows 2 Ready 12 In flight 0" in page
    assert "books: no consumer" not in page
    assert "no consumer: 12 wait" in page


def test_what_is_missing_stands_there_in_red(place: Place, client: redis.Redis) -> None:
    place.flow()
    place.publish(range(12))
    ui = Ui(place)
    assert 'class="balanced"' in ui.page("/flows/numbers")
    with place.queue() as queue:
        client.hincrby(queue.keys.counters, "published", 3)
    eventually(lambda: "3 missing" in ui.page("/flows/numbers"))
    assert re.search(r'<tr class="loss">.*3 missing', ui.page("/flows/numbers"))
    assert 'class="books loss"' in ui.page("/")


def test_a_flows_page_has_its_consumers_leases_troubles_and_checkpoints(place: Place) -> None:
    place.flow()
    with place.queue() as queue:
        beat(queue, "host:1/consumer-numbers", Doing("host:7", 60.0, up_seconds=61.0, write_share=0.91))
        tell_trouble(queue, "no route to host", None)
    place.publish(range(12))
    with place.queue() as queue:
        claim = queue.claim(5)
        assert claim is not None
        page = text_of(Ui(place).page("/flows/numbers"))
        assert "host:7 waits for records" in page
        assert "91%" in page
        assert "1 batch in flight" in page
        assert claim.id in page
        assert "source no route to host since" in page
        assert "published 12" in page
        assert "− in flight 5" in page


def test_live_parts_follow_what_moves_and_agree_with_the_books(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    stream = ui.events("/live")
    name, told = next(stream)
    assert (name, set(told["parts"])) == ("parts", {"flow-0", "sums", "attention"})
    place.publish(range(7))
    changed = next(told["parts"] for _, told in stream if "flow-0" in told.get("parts", {}))
    assert "numbers no consumer 7 0" in text_of(changed["flow-0"])
    stream.close()
    shown = parts_of(ui, "/live?flow=numbers", lambda shown, _: "books" in shown)
    books = place.books()
    assert f"published {books.published} − delivered 0 − filtered 0 − ready 7" in text_of(shown["books"])


def test_what_stays_as_it_is_is_not_sent_again(place: Place) -> None:
    place.flow("busy")
    place.flow("quiet")
    ui = Ui(place)
    stream = (told["parts"] for name, told in ui.events("/live") if name == "parts")
    next(stream)
    place.publish(range(3), "busy")
    changed = next(parts for parts in stream if "flow-0" in parts)
    assert "flow-1" not in changed


def test_viewers_share_one_look_and_where_nobody_looks_redis_is_left_alone(place: Place) -> None:
    with Embedded() as server, redis.Redis.from_url(server.url) as client:
        own = place.at(server.url)
        own.flow()
        ui = Ui(own)
        others = [ui.events("/live") for _ in range(5)]
        for stream in others:
            next(stream)
        watched = (told for name, told in ui.events("/live") if name == "parts")
        next(watched)
        client.config_resetstat()
        for _ in range(4):
            next(watched)
        looks = client.info("commandstats")["cmdstat_exec"]["calls"]
        assert 3 <= looks <= 6, looks
        for stream in others:
            stream.close()
        watched.close()
        ui.http.close()

        def rests() -> bool:
            client.config_resetstat()
            client.blpop("nothing", timeout=3)  # three ticks
            return "cmdstat_exec" not in client.info("commandstats")

        eventually(rests, 30)


def test_redis_away_is_said_with_what_was_there_and_the_page_goes_on(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(12))
        ui = Ui(own)
        stream = ui.events("/live?flow=numbers")
        next(stream)
        server.stop()
        told = next(told for _, told in stream if told.get("away"))
        assert told["away"].startswith("Redis doesn't answer: ")
        page = text_of(ui.page("/flows/numbers"))
        assert "no answer" in page
        assert "published 12" in page
        answer = ui.get("/flows/numbers/dead")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "3"
        assert "This page comes by itself" in answer.text
        server.start()
        told = next(told for name, told in stream if name == "parts" and not told["away"])
        stream.close()
        assert ui.get("/flows/numbers/dead").status_code == 200


def test_a_redis_that_is_slow_keeps_no_page_waiting(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(12))
        ui = Ui(own)
        assert "published 12" in text_of(ui.page("/flows/numbers"))
        stream = ui.events("/live")
        next(stream)
        assert server._pid is not None
        os.kill(server._pid, signal.SIGSTOP)
        try:
            told = next(told for _, told in stream if told.get("away"))
            assert re.match(r"Redis (hasn't answered for \d+ s|doesn't answer)", told["away"])
            began = time.monotonic()
            assert "published 12" in text_of(ui.page("/flows/numbers"))
            assert time.monotonic() - began < 5
        finally:
            os.kill(server._pid, signal.SIGCONT)
        next(told for name, told in stream if name == "parts" and not told["away"])
        stream.close()


def test_it_is_there_again_after_a_restart_and_streams_go_on(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    ui.sign_in()
    next(ui.events("/live"))
    assert ui.service.terminate(10) == 0
    again = Ui(place, port=ui.port)
    again.http = ui.http
    assert "Sign out" in again.page("/")
    assert next(again.events("/live"))[0] == "parts"


def test_sigterm_ends_it_at_once_though_somebody_looks_on(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    stream = ui.events("/live")
    next(stream)
    assert ui.service.terminate(4) == 0
    stream.close()


def test_a_reader_is_enough_to_look_at_everything(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(7))
        with own.queue() as queue:
            claim = queue.claim(2)
            assert claim is not None
            queue.ack(claim, delivered=0, dead=[DeadLetter(line, "bad") for line in claim.lines])
        with redis.Redis.from_url(server.url) as admin:
            rules = READER.rules([own.key_of()], version=version_of(server)).split()
            admin.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">secret", *rules)
        ui = Ui(own, writes=False, REDIS_URL=f"redis://looker:secret@127.0.0.1:{server.port}/0")
        assert "2 dead letters" in ui.page("/flows/numbers")
        (letter,) = set(re.findall(r'href="(/flows/numbers/dead/[\d-]+)"', ui.page("/flows/numbers/dead"))[:1])
        for path in ("/", letter, f"{letter}/record", "/flows/numbers/variants"):
            assert ui.get(path).status_code == 200
        assert next(ui.events("/live?flow=numbers"))[1]["away"] == ""


def test_a_filter_a_sort_and_no_such_flow(place: Place) -> None:
    for name, count in (("shop-a", 3), ("shop-b", 9), ("other", 5)):
        place.flow(name)
        place.publish(range(count), name)
    ui = Ui(place)
    page = ui.page("/?q=shop-*&sort=ready")
    assert re.findall(r'href="/flows/([^"/]+)">', page.partition("<tbody>")[2]) == ["shop-b", "shop-a"]
    assert "Flows 2 of 3 Ready 12" in text_of(page)
    assert "other" in ui.page("/?q=oth")
    assert "There is no flow nobody" in ui.page("/flows/nobody", 404)
    assert ui.get("/live?flow=nobody").status_code == 404


def test_history_is_drawn_with_its_table_and_the_starts_of_consumers(place: Place) -> None:
    place.flow()
    place.publish(range(40))
    place.deliver_the_rest()
    with place.queue() as queue:
        beat(queue, "host:1/consumer-numbers", Doing("host:7", 60.0, up_seconds=1.0))
    ui = Ui(place)
    page = ui.page("/flows/numbers?range=1h")
    assert re.search(r'aria-label="Records a second over an hour: published .* delivered', page)
    assert "In an hour: 40 published, 40 delivered, 0 filtered" in text_of(page).replace(" ,", ",")
    assert "<title>host:7 started" in page
    assert "<polyline" in page
    table = page.partition('aria-label="History"')[2]
    rows = re.findall(r'</th><td class="n">(\d+)</td><td class="n">(\d+)</td>', table)  # two, if a span ended between
    assert [sum(map(int, column)) for column in zip(*rows, strict=True)] == [40, 40]


def test_two_hundred_flows_are_one_quick_page(place: Place) -> None:
    for number in range(200):
        place.flows[f"f{number}"] = {
            "source": NOWHERE,
            "queue": {"key": place.key_of(f"f{number}")},
            "sink": {"type": "null"},
        }
    place.flow("last")
    ui = Ui(place)

    def quick() -> bool:
        began = time.monotonic()
        ui.page("/")
        return time.monotonic() - began < 1

    eventually(quick, 60)
    page = ui.page("/")
    assert page.count('<th scope="row">') == 201
    first = next(told["parts"] for name, told in ui.events("/live") if name == "parts")
    assert len(first) == 203


def test_all_that_a_browser_loads_is_ours_and_small(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    page = ui.page("/flows/numbers")
    loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(loaded) == 3
    assert not re.findall(r'(?:src|href)="(?:\w+:|//)[^"]*"', page)
    assert sum(len(ui.get(path).content) for path in loaded) < 40_000
    shipped = [*(files("millrace.ui") / "static").iterdir(), *(files("millrace.ui") / "templates").iterdir()]
    assert sum(len(file.read_bytes()) for file in shipped) < 200_000
    assert ui.get("/static/../app.py").status_code == 404


def test_an_address_that_is_taken_ends_it_with_2_and_the_mend(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    other = place.start("ui", "--port", str(ui.port))
    assert other.wait() == 2
    assert "choose another with --port" in other.said


def test_without_the_extra_it_says_how_to_get_it(place: Place) -> None:
    place.flow()
    code = "import sys; sys.modules['starlette'] = None; sys.argv[1:] = ['ui']; from millrace.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=place.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'millrace[ui]'" in done.stderr


@pytest.mark.parametrize("variable", ["MILLRACE_OPERATOR_URL", "MILLRACE_UI_TOKEN"])
def test_a_setting_that_is_wrong_is_named_and_not_shown(place: Place, variable: str) -> None:
    place.flow()
    other = place.start("ui", "--port", "0", **{variable: "hunter2"})
    assert other.wait() == 2
    assert variable in other.said
    assert "hunter2" not in other.said


def test_an_operator_of_another_redis_is_refused(place: Place) -> None:
    place.flow()
    other = place.start("ui", "--port", "0", MILLRACE_OPERATOR_URL="redis://op:hunter2@127.0.0.1:1/0")
    assert other.wait() == 2
    assert "another Redis" in other.said
    assert "hunter2" not in other.said


def test_at_each_instant_under_kills_its_books_add_up(place: Place) -> None:
    place.module(SLOW)
    place.flow(sink={"type": "python", "function": "theirs:slow"})
    place.publish(range(2000))
    ui = Ui(place)
    victims = [place.consume() for _ in range(2)]
    stream = (told["parts"] for name, told in ui.events("/live?flow=numbers") if name == "parts")
    for number, parts in enumerate(itertools.islice(stream, 12)):
        if "books" in parts:
            assert "balanced" in parts["books"]
            sums = [int(count.replace(",", "")) for count in re.findall(r'<td class="n">([\d,]+)</td>', parts["books"])]
            assert sums[0] == sum(sums[1:])
        if number % 4 == 3:
            victims[0].kill()
            victims = [*victims[1:], place.consume()]
