"""A practice site of as many pages as one likes, ten quotes each, in a process of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from millrace.practice.quotes import QUOTES
from millrace.practice.site import LAST_PAGE, QUOTES_A_PAGE, PracticeSite, page


def quotes_on(site: str, number: int) -> list[dict[str, Any]]:
    """What a crawl should find on a page."""
    first = _like(number) * QUOTES_A_PAGE - QUOTES_A_PAGE
    return [
        {"text": f"“{text}”", "author": author, "tags": list(tags), "url": f"{site}page/{number}/"}
        for text, author, tags in QUOTES[first : first + QUOTES_A_PAGE]
    ]


def _like(number: int) -> int:
    """The page of the bundled site that this one is like."""
    return (number - 1) % LAST_PAGE + 1


def main(folder: Path, pages: int) -> None:
    """Serves until SIGTERM; `site` in the folder tells where."""
    bodies = {number: page(number).encode() for number in range(1, LAST_PAGE + 1)}
    saved = {f"/page/{number}/": bodies[_like(number)] for number in range(1, pages + 1)}
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with PracticeSite(saved=saved) as site:
        (folder / "site.tmp").write_text(site.url)
        (folder / "site.tmp").rename(folder / "site")
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
