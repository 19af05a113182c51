"""The Link header is read as RFC 8288 has it."""

from __future__ import annotations

import pytest

from millrace_producer.sources.linkheader import links_in, next_link

NEXT = {
    '<https://a/?page=2>; rel="next"': "https://a/?page=2",
    "<https://a/?page=2>; rel=next": "https://a/?page=2",
    "<https://a/?page=2>; rel='next'": "https://a/?page=2",
    "<https://a/?page=2>; rel='last next'": "https://a/?page=2",
    '<https://a/?page=2>; rel="next last"': "https://a/?page=2",
    '<https://a/?page=2>; rel="last  NEXT"': "https://a/?page=2",
    "<https://a/?page=2>; Rel=next": "https://a/?page=2",
    '<https://a/?page=2>; title="a=b"; rel="next"': "https://a/?page=2",
    '<https://a/?page=2>; title="a, b; rel=prev"; rel="next"': "https://a/?page=2",
    '<https://a/?page=2>; title="say \\"x\\", <y>; z"; rel="next"': "https://a/?page=2",
    "<https://a/?page=2>; title=a b c; rel=next": "https://a/?page=2",
    "<https://a/?page=2>; title*=UTF-8''x%2Cy; rel=next": "https://a/?page=2",
    "<https://a/p;v=1,2?page=2;3>;rel=next": "https://a/p;v=1,2?page=2;3",
    '<?page=2>; rel="next"': "?page=2",
    " ,, <?page=2> ; rel = next ;; x": "?page=2",
    '<?page=1>; rel="prev", <?page=3>; rel="next"': "?page=3",
    '<?page=1>;rel="prev","junk",<?page=3>;rel="next"': "?page=3",
    '<?a>; rel="prev"; results="false", <?b>; rel="next"; results="true"': "?b",
    '<?b>; rel="next"; results="false"; cursor="0:100:0"': None,
    '<?b>; rel="next"; Results=FALSE': None,
    "<?b>; rel=prev; rel=next": None,
    "<?b>; rel=nextish": None,
    "<?b>; rel=next; anchor=#other": None,
    '<?b>; title="rel=next"': None,
    '<?b>; title="never closed; rel=next': None,
    "<>; rel=next": None,
    "rel=next": None,
    "": None,
}


@pytest.mark.parametrize("header", NEXT)
def test_the_next_link_is_found_however_it_is_written(header: str) -> None:
    assert next_link([header]) == NEXT[header]


def test_links_may_stand_in_several_headers() -> None:
    assert next_link(['<?a>; rel="first"', '<?b>; rel="next"']) == "?b"


def test_of_a_parameter_that_stands_twice_the_first_counts() -> None:
    (link,) = links_in('<a>; rel="x y"; REL=z; title=t')
    assert (link.relations, link.parameters["title"]) == (["x", "y"], "t")
