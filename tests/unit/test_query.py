"""URLs are edited, never rebuilt."""

from __future__ import annotations

import pytest

from millrace_pipeline.query import with_params

ODD = "http://h/p;x=1?a=1&a=2&%E9=%e9&flag&;&b=c+d%20e&f=&&=g&q=ž"


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        (ODD, {}, ODD),
        (ODD, {"new": "ž &"}, ODD + "&new=%C5%BE+%26"),
        (ODD, {"a": "3"}, "http://h/p;x=1?a=3&%E9=%e9&flag&;&b=c+d%20e&f=&&=g&q=ž"),
        (ODD, {"a": ["3", "4", "5"]}, "http://h/p;x=1?a=3&a=4&a=5&%E9=%e9&flag&;&b=c+d%20e&f=&&=g&q=ž"),
        (ODD, {"flag": "1"}, "http://h/p;x=1?a=1&a=2&%E9=%e9&flag=1&;&b=c+d%20e&f=&&=g&q=ž"),
        ("http://h", {"a": "1"}, "http://h?a=1"),
        ("http://h/#there", {"a": "1"}, "http://h/?a=1#there"),
        ("http://h/?b%5B%5D=1", {"b[]": ["2", "3"]}, "http://h/?b%5B%5D=2&b%5B%5D=3"),
        ("http://h/?", {"a": "1"}, "http://h/?a=1"),
    ],
)
def test_a_parameter_takes_its_place_and_all_else_stays_as_it_is(
    url: str, params: dict[str, str | list[str]], expected: str
) -> None:
    assert with_params(url, params) == expected
