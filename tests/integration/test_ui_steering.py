"""`millrace ui`: pausing and resuming, the audit list, and what rights all of it takes."""

from __future__ import annotations

import re

import redis

from millrace.embedded import Embedded
from millrace_pipeline.queue.changes import changes_of
from millrace_pipeline.queue.roles import OPERATOR, READER
from tests.integration.test_acl import version_of
from tests.integration.test_ui_security import a_letter, a_variant
from tests.pages import Ui, text_of
from tests.services import Place

STEER = "/flows/numbers/steer"


def pressed(ui: Ui, verb: str, part: str, **more: str) -> str:
    fields = {**ui.form(STEER, "/sign-out"), "part": part, **more}
    return text_of(ui.post(f"{STEER}/{verb}", fields).text)


def test_what_is_paused_by_the_page_stands_still_and_is_said_everywhere(place: Place) -> None:
    place.flow()
    place.publish(range(5))
    ui = Ui(place)
    ui.sign_in()
    said = pressed(ui, "pause", "consumers", note="the lake is moved")
    assert "consumers are paused" in said
    assert "numbers paused" in text_of(ui.page("/"))
    assert re.search(r"Consumers paused Since 20\d\d-\S+ \S+ by .* by the page: the lake is moved", said)
    assert place.consume("--until-empty").wait() == 5
    assert place.books().delivered == 0
    assert "paused: consumers paused since" in text_of(ui.page("/flows/numbers"))
    assert "consumers go on" in pressed(ui, "resume", "consumers")
    place.deliver_the_rest()
    assert place.numbers() == list(range(5))


def test_what_people_change_by_the_page_is_in_the_audit_list_and_the_charts(place: Place) -> None:
    place.flow()
    letter = a_letter(place)
    ui = Ui(place)
    ui.sign_in()
    pressed(ui, "pause", "producers", note="why not")
    ui.answer_yes("/flows/numbers/dead/do/drop")
    with place.queue() as queue:
        dropped, paused = changes_of(queue)
    assert (dropped.what, dropped.records, dropped.by.via) == ("dead drop", 1, "the page")
    assert (paused.what, paused.by.via) == ("pause", "the page")
    shown = text_of(ui.page(STEER))
    assert f"dead drop 1 {dropped.by}" in shown
    assert "producers; why not" in shown
    assert f"<title>pause by {paused.by}" in ui.page("/flows/numbers")
    assert letter not in ui.page("/flows/numbers/dead")


def test_no_such_part_and_no_such_verb(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    ui.sign_in()
    fields = ui.form(STEER, "/sign-out")
    for path, part in ((f"{STEER}/pause", "everything"), (f"{STEER}/pause", ""), (f"{STEER}/burn", "consumers")):
        assert ui.post(path, {**fields, "part": part}).status_code == 404
    assert place.books().paused == {}


def test_an_operator_is_enough_to_change_all_and_a_reader_changes_nothing(place: Place) -> None:
    place.flow()
    with Embedded() as server:
        own = place.at(server.url)
        letters = [a_letter(own, b'{"n": %d}' % number) for number in range(3)]
        for number in range(2):
            a_variant(own, {"n": number}, f"misfit {number}", id=f"v-{number}")
        urls = {}
        with redis.Redis.from_url(server.url) as admin:
            for name, role in (("reader", READER), ("operator", OPERATOR)):
                rules = role.rules([own.key_of()], version=version_of(server)).split()
                admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
                urls[name] = f"redis://{name}:secret@127.0.0.1:{server.port}/0"
        ui = Ui(own, REDIS_URL=urls["reader"], MILLRACE_OPERATOR_URL=urls["operator"])
        ui.sign_in()
        edit = ui.form(letters[0], f"{letters[0]}/edit")
        assert "as edited" in ui.post(f"{letters[0]}/edit", {**edit, "text": '{"n": 7}'}).text
        assert "1 put back" in text_of(ui.answer_yes(f"/flows/numbers/dead/do/replay?id={letters[1].split('/')[-1]}"))
        assert "1 dropped" in text_of(ui.answer_yes("/flows/numbers/dead/do/drop"))
        assert "1 put on the list" in text_of(ui.answer_yes("/flows/numbers/variants/do/replay?reason=misfit+0"))
        assert "1 dropped" in text_of(ui.answer_yes("/flows/numbers/variants/do/drop"))
        assert "are paused" in pressed(ui, "pause", "consumers")
        assert "go on" in pressed(ui, "resume", "consumers")
        assert (own.books().dead, own.books().variants, own.books().ready) == (0, 0, 3)
        weak = Ui(own, REDIS_URL=urls["reader"], MILLRACE_OPERATOR_URL=urls["reader"])
        weak.sign_in()
        assert "Redis refused it" in pressed(weak, "pause", "consumers")
        assert own.books().paused == {}
