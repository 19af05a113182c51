"""`millrace ui`: dead letters and variants, looked at safely, edited to the byte, put back or dropped as counted."""

from __future__ import annotations

import html
import json
import re
import time

import redis

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue import DeadLetters, Variants, audit
from tests.integration.test_ui_security import a_letter, a_variant
from tests.pages import Ui, text_of
from tests.services import Place

DEAD = "/flows/numbers/dead"
BIDI = "\u202e\u2066\u200b\u0007\ufeff"


def letters(place: Place, count: int, reason: str = "no JSON", content: bytes = b'{"n": %d') -> None:
    """Set so many records aside."""
    with place.queue() as queue:
        for begin in range(0, count, 1000):
            numbers = range(begin, min(begin + 1000, count))
            queue.publish([], dead=[DeadLetter(content.replace(b"%d", b"%d" % n), reason) for n in numbers])


def signed_in(place: Place) -> Ui:
    place.flow()
    ui = Ui(place)
    ui.sign_in()
    return ui


def ids_in(page: str) -> list[str]:
    return re.findall(r'name="id" value="([\d-]+)"', page)


def test_a_hundred_and_thirty_are_paged_each_once_newest_first(place: Place) -> None:
    ui = signed_in(place)
    letters(place, 130)
    path, seen = DEAD, []
    while True:
        page = ui.page(path)
        seen += ids_in(page)
        following = re.search(r'<a href="([^"]+)" rel="next">', page)
        if following is None:
            break
        path = html.unescape(following[1])
    with place.queue() as queue:
        assert seen == [letter.id for letter in DeadLetters(queue).newest()]
    assert "130 in all" in text_of(page)


def test_ten_thousand_are_no_hindrance(place: Place) -> None:
    ui = signed_in(place)
    letters(place, 10_000)
    a_letter(place, b"x", "something else")
    began = time.monotonic()
    page = ui.page(DEAD)
    assert len(ids_in(page)) == 25
    assert len(page) < 60_000
    assert len(ids_in(ui.page(f"{DEAD}?reason=something+else"))) == 1
    asked = text_of(ui.page(f"{DEAD}/do/replay"))
    assert time.monotonic() - began < 20
    assert "Put back on the list: 10,001 dead letters of numbers?" in asked
    assert "no JSON 10,000" in asked
    assert "10,000 put back on the list" in text_of(ui.answer_yes(f"{DEAD}/do/replay?reason=no+json"))
    with place.queue() as queue:
        books = audit(queue)  # which looks at each, since they are foreign: bytes that are no envelope of ours
    assert (books.dead, books.ready, books.difference) == (1, 10_000, 0)


def test_filters_are_by_reason_and_time_and_a_wrong_time_is_said(place: Place, client: redis.Redis) -> None:
    ui = signed_in(place)
    letters(place, 3, "model: price")
    letters(place, 2, "no JSON")
    with place.queue() as queue:
        old = int((time.time() - 7200) * 1000)
        client.delete(queue.keys.dead)
        for moment, reason in ((old, "model: price"), (old + 1, "no JSON"), (old + 7_190_000, "model: name")):
            fields = {"record": b"{", "reason": reason, "attempts": 1, "batch": ""}
            client.xadd(queue.keys.dead, fields, id=f"{moment}-0")
    for query, count in (("", 3), ("reason=MODEL", 2), ("since=1h", 1), ("older=1h", 2), ("older=1h&reason=model", 1)):
        assert len(ids_in(ui.page(f"{DEAD}?{query}"))) == count, query
        asked = text_of(ui.page(f"{DEAD}/do/drop?{query}"))
        assert f"Drop for good: {count} dead letter" in asked
    assert "tuesday: expected a duration" in text_of(ui.page(f"{DEAD}?since=tuesday"))
    assert ui.get(f"{DEAD}/do/drop?since=tuesday").status_code == 400
    ui.answer_yes(f"{DEAD}/do/drop?older=1h&reason=model")
    assert len(ids_in(ui.page(DEAD))) == 2


def test_what_came_after_the_count_is_left_alone(place: Place) -> None:
    ui = signed_in(place)
    letters(place, 4)
    fields = ui.form(f"{DEAD}/do/drop")
    letters(place, 3)
    assert "4 dropped" in text_of(ui.post(f"{DEAD}/do/drop", fields).text)
    assert "0 dropped" in text_of(ui.post(f"{DEAD}/do/drop", fields).text)
    books = place.books()
    assert (books.dead, books.discarded, books.difference) == (3, 4, 0)


def test_a_form_that_names_no_letters_does_nothing(place: Place) -> None:
    ui = signed_in(place)
    letters(place, 2)
    fields = ui.form(f"{DEAD}/do/drop")
    for through in ("", "x", "-"):
        assert ui.post(f"{DEAD}/do/drop", {**fields, "through": through}).status_code == 400
    assert ui.post(f"{DEAD}/do/burn", fields).status_code == 404
    assert place.books().dead == 2


def test_the_ticked_ones_and_no_others_are_put_back_and_delivered(place: Place) -> None:
    ui = signed_in(place)
    letters(place, 5, content=b'{"n": %d}')
    ticked = ids_in(ui.page(DEAD))[1:3]
    path = f"{DEAD}/do/replay?" + "&".join(f"id={id}" for id in ticked)
    fields = [*ui.form(path).items(), *(("id", id) for id in ticked)]
    assert "2 put back on the list" in text_of(ui.post(f"{DEAD}/do/replay", fields).text)
    place.deliver_the_rest()
    assert place.numbers() == [2, 3]
    assert (place.books().dead, place.books().difference) == (3, 0)


def test_an_edited_letter_goes_back_to_the_byte_and_an_unchanged_one_stays(place: Place) -> None:
    ui = signed_in(place)
    letter = a_letter(place, '{\n\t"name": "Zoë",\n\n "n": 1'.encode())
    page = ui.page(letter)
    area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert area is not None
    text = html.unescape(area[1])
    fields = ui.form(letter, f"{letter}/edit")
    as_sent = text.replace("\n", "\r\n")
    assert "not changed" in text_of(ui.post(f"{letter}/edit", {**fields, "text": as_sent}).text)
    assert "put back on the list as edited" in text_of(
        ui.post(f"{letter}/edit", {**fields, "text": as_sent + "}"}).text
    )
    with place.queue() as queue:
        assert queue.ask(("LRANGE", queue.keys.ready, 0, -1)) == [['{\n\t"name": "Zoë",\n\n "n": 1}'.encode()]]
    place.deliver_the_rest()
    assert place.records() == [{"name": "Zoë", "n": 1}]
    assert place.books().difference == 0
    assert ui.post(f"{letter}/edit", {**fields, "text": "x"}).status_code == 404


def test_what_hides_or_turns_text_round_is_named_and_edited_as_an_escape(place: Place) -> None:
    ui = signed_in(place)
    record = {"n": 1, "name": f"a{BIDI}b😀\U000e0041"}
    letter = a_letter(place, json.dumps(record, ensure_ascii=False).encode(), f"why {BIDI}")
    for path in (DEAD, letter, f"{letter}?as=text", f"{letter}?as=bytes"):
        page = ui.page(path)
        assert not [sign for sign in page if not (sign.isprintable() or sign in "\n\t")], path
        assert "U+202E" in page
    page = ui.page(letter)
    assert "RIGHT-TO-LEFT OVERRIDE" in page
    assert r"\u202e" in page
    area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page, re.DOTALL)
    assert area is not None
    fields = ui.form(letter, f"{letter}/edit") | {"text": html.unescape(area[1]).replace('"n": 1', '"n": 2')}
    ui.post(f"{letter}/edit", fields)
    place.deliver_the_rest()
    assert place.records() == [{**record, "n": 2}]


def test_bytes_that_are_no_text_are_shown_as_bytes_and_not_put_into_a_form(place: Place) -> None:
    ui = signed_in(place)
    for content in (b"\x89PNG\r\n\x1a\n\xff\xfe", b"a\r\nb", b"a\x00b", b"x" * 2_000_000):
        letter = a_letter(place, content)
        page = ui.page(letter)
        assert "<textarea" not in page
        assert "millrace dead edit numbers" in text_of(page)
        assert f"00000000  {content[:2].hex(' ')}" in ui.page(f"{letter}?as=bytes")
        word = ui.form(letter, "/sign-out")
        assert ui.post(f"{letter}/edit", {**word, "text": "x"}).status_code == 400
        download = ui.get(f"{letter}/record")
        assert download.content == content


def test_ten_megabytes_are_cut_with_all_of_them_as_a_file(place: Place) -> None:
    ui = signed_in(place)
    big = b'{"filler": "' + b"y" * 10_000_000 + b'"'
    letter, *_ = [a_letter(place, big + b"%d" % number) for number in range(3)]
    assert len(ui.page(DEAD)) < 30_000
    page = ui.page(letter)
    assert len(page) < 200_000
    assert "9,934,478 bytes more are left out here" in text_of(page)
    answer = ui.get(f"{letter}/record")
    assert answer.content == big + b"0"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_reasons_of_one_kind_are_counted_together(place: Place) -> None:
    ui = signed_in(place)
    with place.queue() as queue:
        queue.publish([], dead=[DeadLetter(b"{", f"no price in {number} of 'book {number}'") for number in range(30)])
    assert "30 no price in …" in text_of(ui.page("/flows/numbers"))
    assert "no price in … 30" in text_of(ui.page(f"{DEAD}/do/drop"))


def test_variants_pass_after_all_or_are_dropped_as_counted(place: Place) -> None:
    ui = signed_in(place)
    for number in range(4):
        a_variant(place, {"n": number}, f"misfit {number % 2}", id=f"v/{number}?")
    base = "/flows/numbers/variants"
    page = ui.page(base)
    assert "4 that the flow's contract set aside" in text_of(page)
    (one,) = [html.unescape(path) for path in re.findall(r'href="([^"]*/one/[^"]*)"', page)][:1]
    assert '"n": 3' in html.unescape(ui.page(one))
    assert json.loads(ui.get(one.replace("/one/", "/record/")).content)["data"] == {"n": 3}
    fields = ui.form(f"{base}/do/drop?reason=misfit+1")
    a_variant(place, {"n": 5}, "misfit 1", id="v-5")
    assert "2 dropped" in text_of(ui.post(f"{base}/do/drop", fields).text)
    assert "2 put on the list" in text_of(ui.answer_yes(f"{base}/do/replay?reason=misfit+0"))
    place.deliver_the_rest()
    assert place.numbers() == [0, 2]
    with place.queue() as queue:
        assert [one.envelope.id for one in Variants(queue).newest()] == ["v-5"]
    assert place.books().difference == 0
