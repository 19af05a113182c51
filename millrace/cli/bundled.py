"""What comes with Millrace to try it: a web site, an event stream, and the flows that read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from millrace_pipeline.errors import MillraceError

EVENTS_A_SECOND = 400
PAGE_SECONDS = 0.3


@contextlib.contextmanager
def bundled_sites() -> Iterator[dict[str, str]]:
    """The addresses of the bundled site and stream, by the variable that the flows take them from."""
    from millrace.practice.site import PracticeSite
    from millrace.practice.stream import PracticeStream

    with PracticeSite(delay=PAGE_SECONDS) as site, PracticeStream(rate=EVENTS_A_SECOND) as stream:
        yield {"QUOTES_URL": site.url, "WIKIPEDIA_URL": stream.url}


def bundled_flows() -> Path:
    """The flows that come with Millrace: beside this package in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parent.parent
    for place in (package / "practice" / "flows.yaml", package.parent / "flows.yaml"):
        if place.exists():
            return place
    raise MillraceError("the bundled flows.yaml is missing: install Millrace again")
