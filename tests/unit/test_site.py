"""The site of the documentation: strict, and with every public name on it. `make docs` builds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import millrace
import millrace.scrapy
import millrace.spiders
import millrace.testing

ROOT = Path(__file__).resolve().parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
API = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))


PUBLIC = [
    f"{module.__name__}.{name}"
    for module in (millrace, millrace.scrapy, millrace.spiders, millrace.testing)
    for name in module.__all__
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_on_an_api_page(name: str) -> None:
    assert re.search(rf"^::: {re.escape(name)}$", API, re.MULTILINE)


def test_a_page_or_a_link_that_leads_nowhere_fails_the_build() -> None:
    assert SITE["strict"] is True
    assert set(SITE["validation"]) == {"omitted_files", "absolute_links", "unrecognized_links", "anchors"}
    assert set(SITE["validation"].values()) == {"warn"}
    assert "mkdocs build\n" in (ROOT / "Makefile").read_text()  # with --quiet it doesn't count warnings


def test_a_reader_of_the_site_asks_no_other_server() -> None:
    assert SITE["theme"]["font"] is False
    assert not {"analytics", "polyfills"} & SITE["extra"].keys()
    assert not {"extra_javascript", "extra_css"} & SITE.keys()
