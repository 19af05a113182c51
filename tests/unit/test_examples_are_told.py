"""What a property fails of can be tried again: its example is in the log, whichever test it is."""

from __future__ import annotations

from hypothesis import settings

from tests.integration import test_any_json


def test_a_property_that_fails_says_what_makes_it_fail_again() -> None:
    assert settings().print_blob
    assert test_any_json.MANY.print_blob
    assert test_any_json.FEW.print_blob
