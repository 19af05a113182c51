"""The page as a browser has it: live, legible to all, of any width, and deaf to what others planted."""

from __future__ import annotations

import re

import msgspec
import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.presence import Doing, beat
from millrace_pipeline.queue.troubles import tell_trouble
from tests.browser.conftest import Open
from tests.browser.keyboard import Person
from tests.conftest import eventually
from tests.integration.test_ui_security import a_variant
from tests.pages import TOKEN, Ui
from tests.services import Place

PLANTED = '<img src=x onerror="window.pwned=1;alert(1)"><script>window.pwned=1</script>\'"><svg onload=alert(2)>'


def every_page(shop: Place, ui: Ui, page: Page) -> list[str]:
    """The address of a page of each kind, for who is signed in by now."""
    page.goto(f"{ui.address}sign-in")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    expect(page.locator("body")).to_contain_text("Sign out")
    with shop.queue("orders") as queue:
        id = next(DeadLetters(queue).newest()).id
    flow = "flows/orders"
    paths = ["", "?q=nothing", flow, "flows/quiet", f"{flow}/dead", f"{flow}/dead/{id}", f"{flow}/dead/{id}?as=bytes"]
    paths += [
        f"{flow}/dead/do/drop",
        f"{flow}/variants",
        f"{flow}/variants/do/replay",
        f"{flow}/steer",
        f"{flow}/tap?at=ready",
        f"{flow}/tap?at=in",
        "flows/nobody",
        "sign-in",
    ]
    page.goto(f"{ui.address}{flow}/variants")
    one = page.locator("tbody th a").first.get_attribute("href")
    assert one is not None
    return [f"{ui.address}{path}" for path in (*paths, one.lstrip("/"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(shop: Place, ui: Ui, opened: Open, scheme: str) -> None:
    page = opened(ui.address, scheme=scheme)
    with shop.queue("orders") as queue:
        tell_trouble(queue, "no route to host", None)
    for address in every_page(shop, ui, page):
        page.goto(address)
        found = Axe().run(page).response["violations"]
        bad = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in bad] == [], address


def test_on_a_phone_nothing_is_wider_than_the_screen(shop: Place, ui: Ui, opened: Open) -> None:
    shop.flow("a-flow-with-a-very-long-name-that-no-phone-has-room-for-in-one-line-of-its-own")
    with shop.queue("orders") as queue:
        queue.publish([], dead=[DeadLetter(b"x" * 3000, "y" * 3000)])
    page = opened(ui.address, width=390)
    for address in every_page(shop, ui, page):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
        low = "it => it.offsetParent && it.offsetHeight < 24"
        assert page.evaluate(f"[...document.querySelectorAll('button, .button')].filter({low}).length") == 0, address


def test_html_that_others_planted_is_never_run(place: Place, opened: Open) -> None:
    place.flow("orders", source={"type": "sse", "url": f"http://127.0.0.1:9/{PLANTED}"})
    with place.queue("orders") as queue, redis.Redis.from_url(place.redis_url) as client:
        queue.name = PLANTED
        place.publish(range(5), "orders")
        assert queue.claim(2) is not None
        queue.publish([], dead=[DeadLetter(f'{{"a": "{PLANTED}"}}'.encode(), PLANTED)])
        beat(queue, PLANTED, Doing(PLANTED, 600.0, trouble=PLANTED))
        tell_trouble(queue, PLANTED, None)
        client.hset(queue.keys.checkpoints, PLANTED, msgspec.json.encode({PLANTED: PLANTED}))
    a_variant(place, {"a": PLANTED}, PLANTED, id=PLANTED, flow="orders")
    ui = Ui(place)
    page = opened(ui.address)
    for address in every_page(place, ui, page):
        page.goto(address)
        assert page.evaluate("window.pwned") is None, address
        assert page.locator("main img, main script").count() == 0, address
    page.goto(f"{ui.address}flows/orders")
    place.publish(range(100, 110), "orders")  # and in the parts that come live
    expect(page.locator("#books")).to_contain_text("published17")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0
    assert page.inner_text("main").count("onerror") >= 5


def test_numbers_move_as_records_do_and_the_focus_stays(shop: Place, ui: Ui, opened: Open) -> None:
    person = Person(opened(ui.address))
    person.go_to("quiet")
    row = person.page.locator("tr", has_text="quiet")
    shop.publish(range(7), "quiet")
    expect(row.locator('[data-name="Ready"]')).to_have_text("7")
    expect(row.locator(".badge")).to_have_text("no consumer")
    assert person.at == "quiet"
    shop.deliver_the_rest()
    expect(row.locator('[data-name="Ready"]')).to_have_text("0")


def test_three_thousand_dead_letters_go_back_by_one_answer(shop: Place, ui: Ui, opened: Open) -> None:
    with shop.queue("prices") as queue:
        for begin in range(0, 3000, 500):
            queue.publish([], dead=[DeadLetter(b'{"n": %d}' % n, "model: x") for n in range(begin, begin + 500)])
    person = Person(opened(ui.address))
    person.sign_in()
    person.page.set_default_timeout(90_000)  # three thousand scripts, on a machine that is busy
    person.page.goto(f"{ui.address}flows/prices/dead")
    person.sees("3,000 in all")
    person.follow("Put back on the list…")
    person.sees("Put back on the list: 3,000 dead letters of prices?")
    person.follow("Put back on the list (3,000)")
    person.sees("3,000 put back on the list")
    assert shop.books("prices").ready == 3000


def test_redis_away_is_said_and_the_page_is_right_again_by_itself(place: Place, opened: Open) -> None:
    place.flow("orders")
    with Embedded() as server:
        own = place.at(server.url)
        own.publish(range(12), "orders")
        ui = Ui(own)
        page, letters = opened(f"{ui.address}flows/orders"), opened(f"{ui.address}flows/orders/dead")
        expect(page.locator("#books")).to_contain_text("published12")
        expect(page.locator("#pulse-words")).to_have_text("live")
        server.stop()
        expect(page.locator("#away")).to_contain_text("Redis doesn't answer")
        expect(page.locator("#books")).to_contain_text("published12")
        letters.reload()
        expect(letters.locator("h1")).to_have_text("Redis doesn't answer")
        server.start()
        own.publish(range(3), "orders")
        expect(page.locator("#away")).to_be_hidden()
        expect(page.locator("#books")).to_contain_text("published3")
        expect(letters.locator("h1")).to_have_text("Dead letters")


def test_its_own_restart_is_said_and_the_page_goes_on(shop: Place, ui: Ui, opened: Open) -> None:
    person = Person(opened(ui.address))
    person.sign_in()
    person.page.goto(f"{ui.address}flows/orders")
    expect(person.page.locator("#pulse-words")).to_have_text("live")
    ui.service.kill()
    expect(person.page.locator("#away")).to_contain_text("millrace ui doesn't answer")
    again = Ui(shop, port=ui.port)
    shop.publish(range(200, 203), "orders")
    expect(person.page.locator("#away")).to_be_hidden()
    expect(person.page.locator("#books")).to_contain_text("published107")
    person.page.reload()
    person.sees("Sign out")
    assert again.service.running


def test_it_asks_nobody_else_for_anything(shop: Place, ui: Ui, opened: Open) -> None:
    page = opened("about:blank")
    asked: list[str] = []
    sizes: dict[str, int] = {}
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda got: sizes.update({got.url: len(got.body())}) if "/live" not in got.url else None)
    page.goto(f"{ui.address}flows/orders")
    expect(page.locator("#pulse-words")).to_have_text("live")
    assert all(url.startswith(ui.address) for url in asked), asked
    assert sum(sizes.values()) < 200_000, sizes


def test_without_its_script_it_is_a_page_all_the_same(shop: Place, ui: Ui, chromium: object) -> None:
    context = chromium.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto(f"{ui.address}flows/orders/dead")
    page.get_by_role("link", name="Older ›").click()
    page.get_by_role("link", name=re.compile(r"^20\d\d-")).first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Dead letter")
    context.close()


def test_records_pass_by_and_can_be_held(shop: Place, ui: Ui, opened: Open) -> None:
    person = Person(opened(ui.address))
    person.sign_in()
    person.page.goto(f"{ui.address}flows/quiet")
    person.follow("Tap…")
    person.page.select_option("#at", "out")
    person.follow("Watch")
    consumer = shop.consume("quiet")
    rows = person.page.locator("#rows tr")
    shop.publish(range(3), "quiet")
    expect(rows).to_have_count(3, timeout=60_000)
    expect(rows.first).to_contain_text('{"n":2}')
    person.go_to("Hold")
    person.press("Enter")
    shop.publish(range(3, 6), "quiet")
    eventually(lambda: shop.books("quiet").delivered == 6, 60)
    expect(rows).to_have_count(3)
    consumer.terminate()
