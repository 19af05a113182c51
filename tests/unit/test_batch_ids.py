"""A batch's id, whoever takes it apart: of one that was claimed, split, or put off."""

from __future__ import annotations

import pytest

from millrace_consumer.readback import BATCH_ID
from millrace_consumer.sinks.kafkanotes import Written, session_of
from millrace_pipeline.queue.claim import delayed_id, is_delayed

SESSION = "20261129T163150Z-b18b0639fd"
CLAIMED, PUT_OFF = f"{SESSION}-000007", delayed_id(SESSION, 7)


@pytest.mark.parametrize("id", [CLAIMED, PUT_OFF])
@pytest.mark.parametrize("half", ["", "a", "bab"])
def test_it_is_known_as_one_and_as_put_off_or_not(id: str, half: str) -> None:
    assert BATCH_ID.fullmatch(id + half)
    assert is_delayed(id + half) is (id == PUT_OFF)


def test_kafka_s_notes_hold_what_was_put_off_as_ranges_of_one_session() -> None:
    assert session_of(PUT_OFF) == session_of(delayed_id(SESSION, 8)) != session_of(CLAIMED) == SESSION
    written = Written()
    for number in range(1, 9):
        written = written.with_(delayed_id(SESSION, number))
    assert str(written) == "1-8"
    assert PUT_OFF in written
