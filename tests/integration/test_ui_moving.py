"""`millrace ui`: moving a checkpoint, purging a list and requeuing a batch, each asked first, with the count."""

from __future__ import annotations

import html
import re

import pytest

from millrace_pipeline.queue.changes import changes_of
from tests.integration.test_ui_steering import STEER
from tests.pages import Ui, text_of
from tests.services import Place

SURE = f"{STEER}/sure"


@pytest.fixture
def ui(place: Place) -> Ui:
    place.flow()
    place.publish(range(12))
    ui = Ui(place)
    ui.sign_in()
    return ui


def test_the_question_changes_nothing_and_the_answer_is_in_the_audit_list(place: Place, ui: Ui) -> None:
    asked = text_of(ui.page(f"{SURE}/purge?to=dead&note=why"))
    assert "Purge 12 records of numbers?" in asked
    assert place.books().ready == 12
    assert "12 records became dead letters" in text_of(ui.answer_yes(f"{SURE}/purge?to=dead&note=why"))
    assert "the checkpoint is moved; it was none" in text_of(ui.answer_yes(f'{SURE}/checkpoint?position="7"'))
    assert 'it was "7"' in html.unescape(text_of(ui.answer_yes(f"{SURE}/checkpoint?reset=yes")))
    with place.queue() as queue:
        reset, moved, purged = changes_of(queue)
    assert [one.what for one in (purged, moved, reset)] == ["purge", "checkpoint set", "checkpoint reset"]
    assert (purged.records, purged.detail["note"], purged.by.via) == (12, "why", "the page")


def test_no_more_is_purged_than_was_counted(place: Place, ui: Ui) -> None:
    form = ui.form(f"{SURE}/purge?to=away")
    place.publish(range(12, 20))
    assert "12 records were thrown away" in text_of(ui.post(f"{SURE}/purge", form).text)
    assert (place.books().ready, place.books().discarded, place.books().difference) == (8, 12, 0)


def test_a_batch_is_requeued_under_its_id_or_onto_the_list(place: Place, ui: Ui) -> None:
    with place.queue() as queue:
        first, second = queue.claim(5), queue.claim(4)
        assert first is not None
        assert second is not None
        refused = text_of(ui.answer_yes(f"{SURE}/requeue?batch={first.id}"))
        assert "its lease is good for" in refused
        assert "Take 5 records of numbers" in text_of(ui.page(f"{SURE}/requeue?batch={first.id}"))
        said = text_of(ui.answer_yes(f"{SURE}/requeue?batch={first.id}&force=yes"))
        assert "5 records can be taken over at once" in said
        assert "on the list again" in text_of(ui.answer_yes(f"{SURE}/requeue?batch={second.id}&how=list&force=yes"))
        assert place.books().ready == 3 + 4
        assert ui.get(f"{SURE}/requeue?batch={second.id}").status_code == 404
    place.deliver_the_rest()
    assert place.numbers() == list(range(12))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("checkpoint?position={", "is no JSON"),
        ("checkpoint?position=null", "null is no position"),
        ("checkpoint?position=7", "can't be read from 7"),
        ("purge?to=nowhere", "Say where to"),
        ("requeue?batch=<b>x</b>", "is in flight any more"),
        ("burn", "nothing of that name"),
    ],
)
def test_what_can_not_be_done_is_refused_before_it_is_asked(place: Place, ui: Ui, path: str, said: str) -> None:
    answer = ui.get(f"{SURE}/{path}")
    assert 400 <= answer.status_code < 500
    assert said in html.unescape(text_of(answer.text))
    assert "<b>x" not in answer.text
    assert place.books().ready == 12


@pytest.mark.parametrize("act", ["purge", "checkpoint", "requeue"])
def test_nobody_moves_anything_without_signing_in_and_with_a_form_of_ours(place: Place, ui: Ui, act: str) -> None:
    fields = {"to": "away", "count": "12", "position": '"7"', "batch": "b"}
    stale = ui.post(f"{SURE}/{act}", {**fields, "word": "guessed"})
    assert stale.status_code == 403
    assert "Nothing" in text_of(stale.text) or "nothing was done" in text_of(stale.text)
    stranger = Ui(place)
    assert "The token" in text_of(stranger.page(f"{SURE}/{act}?to=away&position=7&batch=b"))
    assert "The token" in text_of(stranger.post(f"{SURE}/{act}", fields).text)
    reading = Ui(place, writes=False, MILLRACE_UI_TOKEN="")
    assert not re.search("<form[^>]*sure", reading.page(STEER))
    books = place.books()
    assert (books.ready, books.checkpoints, books.discarded) == (12, {}, 0)
