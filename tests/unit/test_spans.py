"""Spans: what moved is counted where it moved, and nothing is counted twice or left out."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from millrace_pipeline.queue.history import MOVED, STOOD
from millrace_pipeline.queue.spans import Note, spans

EMPTY = (0,) * len(STOOD)


def note(moment: float, published: int, delivered: int = 0, ready: int = 0) -> Note:
    moved = {"published": published, "delivered": delivered}
    stood = {"ready": ready}
    return Note(moment, tuple(moved.get(name, 0) for name in MOVED) + tuple(stood.get(name, 0) for name in STOOD))


def test_what_moved_counts_where_it_moved_and_quiet_spans_are_there_too() -> None:
    notes = [note(60, 0), note(70, 5, ready=5), note(240, 8, 5, ready=3), note(250.5, 9, 9)]
    found = spans(notes, 0, 60)
    assert [span.start for span in found] == [datetime.fromtimestamp(60 * n, UTC) for n in (1, 2, 3, 4)]
    assert [(span.published, span.delivered, span.ready) for span in found] == [
        (8, 5, 3),
        (0, 0, 3),
        (0, 0, 3),
        (1, 4, 0),
    ]


def test_a_span_begins_where_it_was_asked_for_on_the_clock() -> None:
    notes = [note(3600, 0), note(7199, 10), note(7201, 11)]
    (last,) = spans(notes, 7200, 3600)
    assert (last.start.hour, last.published) == (2, 0)
    assert [span.published for span in spans(notes, 7199, 3600)] == [11, 0]


def test_of_no_notes_there_are_no_spans() -> None:
    assert spans([], 0, 60) == []


@given(
    st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 50)), min_size=1),
    st.sampled_from([10, 60, 3600]),
)
def test_all_spans_together_are_all_that_moved(steps: list[tuple[int, int]], seconds: int) -> None:
    moment, published, notes = 10, 0, [note(10, 0)]
    for pause, count in steps:
        moment, published = moment + pause, published + count
        notes.append(note(moment, published))
    found = spans(notes, 0, seconds)
    assert sum(span.published for span in found) == published
    assert all(after.start > before.start for before, after in pairwise(found))
