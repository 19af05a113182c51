"""`millrace ui`: records that pass by, for who may listen, and nothing while nobody does."""

from __future__ import annotations

import re

import redis

from millrace_pipeline.queue.keys import Keys
from tests.conftest import eventually
from tests.integration.test_ui_security import a_letter, inline_in
from tests.pages import Ui, text_of
from tests.services import Place

TAP = "/flows/numbers/tap"
PLANTED = "<img src=x onerror=alert(1)>"


def signed_in(place: Place, **options: object) -> Ui:
    place.flow(**options)
    ui = Ui(place)
    ui.sign_in()
    return ui


def listening(ui: Ui, place: Place, path: str) -> object:
    """The rows as they come, once it listens."""
    stream = ui.events(path)
    next(stream)
    with redis.Redis.from_url(place.redis_url) as client:
        keys = Keys(place.key_of())
        eventually(lambda: client.exists(keys.tap_in) or client.exists(keys.tap_out))
    return (told for name, told in stream if name == "rows")


def test_what_is_delivered_passes_by_with_what_the_sink_had_of_it(place: Place) -> None:
    ui = signed_in(place, transforms=[{"type": "select", "fields": ["n"]}])
    assert "Records that are" in ui.page(TAP)
    path = re.search(r'data-live="([^"]+)"', ui.page(f"{TAP}?at=out"))
    assert path is not None
    rows = listening(ui, place, path[1].replace("&amp;", "&"))
    place.publish(range(3), filler=PLANTED)
    consumer = place.consume()
    told = next(told for told in rows if told["rows"])  # type: ignore[attr-defined]
    assert inline_in(told["rows"]) == []
    said = text_of(told["rows"])
    assert f'delivered {{"n":0,"filler":"{PLANTED}"}} became {{"n":0}}' in said
    assert "passed" in told["told"]
    consumer.terminate()


def test_an_expression_leaves_out_the_others_and_a_wrong_one_is_said(place: Place) -> None:
    ui = signed_in(place)
    letters = [a_letter(place, b'{"n": %d}' % number) for number in range(3)]
    assert len(letters) == 3
    place.publish(range(5))
    told = next(told for name, told in ui.events(f"{TAP}/live?at=ready&where=n > `2`") if name == "rows")
    assert [text_of(row) for row in re.findall(r"<code.*?</code>", told["rows"])] == ['{"n":3}', '{"n":4}']
    assert told["over"]
    assert 'class="banner bad"' in ui.page(f"{TAP}?at=ready&where=n+>")
    assert ui.get(f"{TAP}/live?at=ready&where=n+>").status_code == 400


def test_who_has_not_signed_in_may_not_listen_and_taps_nothing(place: Place, client: redis.Redis) -> None:
    place.flow()
    ui = Ui(place)
    assert "sign in" in text_of(ui.page(f"{TAP}?at=in"))
    assert 'data-live=""' in ui.page(f"{TAP}?at=in")
    assert ui.get(f"{TAP}/live?at=in").status_code == 403
    assert not client.exists(Keys(place.key_of()).tap_in)
    assert ui.get(f"{TAP}/live?at=ready").status_code == 200


def test_when_nobody_looks_on_the_tap_is_gone(place: Place, client: redis.Redis) -> None:
    ui = signed_in(place)
    stream = ui.events(f"{TAP}/live?at=in")
    next(stream)
    keys = Keys(place.key_of())
    eventually(lambda: client.exists(keys.tap_in))
    stream.close()
    ui.http.close()
    eventually(lambda: not client.exists(keys.tap_in), 30)
