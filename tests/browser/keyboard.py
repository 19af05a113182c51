"""Somebody with a keyboard and no mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.pages import TOKEN

MOST_TABS = 150

FOCUSED = """() => {
  const it = document.activeElement;
  if (!it || it === document.body) return "";
  const label = it.labels && it.labels.length ? it.labels[0].textContent : "";
  return (it.getAttribute("aria-label") || label || it.textContent || it.value || it.placeholder || "").trim();
}"""


class Person:
    """Goes from one thing to the next by Tab, and does what its name says by Enter or Space."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def at(self) -> str:
        """What the focus is on, by its name."""
        return str(self.page.evaluate(FOCUSED))

    def go_to(self, name: str) -> None:
        """Tab until something of this name has the focus, which must be seen."""
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            if name in self.at:
                assert self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"no Tab leads to {name!r} on {self.page.url}")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def follow(self, name: str) -> None:
        """Go to a link or button of this name and press it."""
        self.go_to(name)
        before = self.page.url
        with self.page.expect_navigation():
            self.press("Enter")
        assert before

    def type(self, label: str, text: str) -> None:
        """Go to a field and fill it anew."""
        self.go_to(label)
        self.press("Control+A")
        self.page.keyboard.type(text)

    def sees(self, text: str) -> None:
        """Return once this is on the page."""
        expect(self.page.locator("body")).to_contain_text(text)

    def sign_in(self) -> None:
        self.follow("Sign in")
        self.type("The token", TOKEN)
        with self.page.expect_navigation():
            self.press("Enter")
        self.sees("Sign out")
