"""A Chromium of this machine, and a page that is served with something of everything on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue.presence import Doing, beat
from tests.browser.keyboard import Person
from tests.integration.test_ui_security import a_variant
from tests.pages import Ui
from tests.services import Place

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-component-update", "--no-proxy-server"]
"""A container has no sandbox of its own to give, and nothing is asked for from elsewhere."""

expect.set_options(timeout=20_000)

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, or whichever there is."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def shop(place: Place) -> Place:
    """Three flows with records, letters, variants, consumers and leases."""
    place.flow("orders")
    place.flow("prices", sink={"type": "null"})
    place.flow("quiet")
    place.publish(range(40), "orders")
    with place.queue("orders") as queue:
        queue.publish([], dead=[DeadLetter(b'{"n": %d}' % n, f"model: no price in {n}") for n in range(60)])
        queue.publish([], dead=[DeadLetter(b"{", "no JSON") for _ in range(3)])
        assert queue.claim(5) is not None
        beat(queue, "host:1/consumer-orders", Doing("host:7", 600.0, up_seconds=2.0, write_share=0.4))
    a_variant(place, {"n": 1}, "misfit", flow="orders")
    return place


@pytest.fixture
def ui(shop: Place) -> Ui:
    """The page of these flows."""
    return Ui(shop)


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Open]:
    """Open a page in a window of its own. What is wrong in its script, or against its policy, fails the test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open(address: str, width: int = 1200, scheme: str = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"{page.url}: a dialog: {dialog.message}"))
        page.on(
            "console",
            lambda said: (
                wrong.append(f"{page.url}: {said.text}")
                if said.type == "error" and "Failed to load resource" not in said.text and "net::ERR" not in said.text
                else None
            ),
        )
        page.goto(address)
        return page

    yield open
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def person(ui: Ui, opened: Open) -> Person:
    """Somebody with a keyboard and no mouse, before the page of all flows."""
    return Person(opened(ui.address))
