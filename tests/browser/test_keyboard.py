"""Sixteen tasks that people have, each done by keyboard alone."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from millrace_pipeline.queue import DeadLetters
from tests.browser.keyboard import Person
from tests.conftest import eventually
from tests.services import Place


def test_1_skip_the_head_of_the_page(person: Person) -> None:
    person.press("Tab")
    assert person.at == "Skip to the content"
    person.press("Enter")
    assert person.page.evaluate("document.activeElement.id") == "main"


def test_2_find_a_flow_by_its_name(person: Person) -> None:
    person.press("/")
    person.page.keyboard.type("pri*")
    with person.page.expect_navigation():
        person.press("Enter")
    expect(person.page.locator("tbody th")).to_have_text(["prices"])


def test_3_see_the_flow_with_the_most_dead_letters_first(person: Person) -> None:
    person.follow("Dead")
    expect(person.page.locator("tbody th").first).to_have_text("orders")
    expect(person.page.locator("th[aria-sort]")).to_have_text("Dead")


def test_4_look_at_a_flow_and_come_back(person: Person) -> None:
    person.follow("orders")
    expect(person.page.get_by_role("heading", level=1)).to_have_text("orders")
    person.follow("Flows")
    assert person.page.url.endswith("/")


def test_5_look_a_day_back(person: Person) -> None:
    person.follow("orders")
    person.follow("a day")
    person.sees("In a day: ")
    expect(person.page.locator(".tabs [aria-current]")).to_have_text("24h")


def test_6_see_which_batches_are_in_flight_while_the_page_lives_on(person: Person, shop: Place) -> None:
    person.follow("orders")
    person.go_to("1 batch in flight")
    person.press("Enter")
    expect(person.page.locator("#leases")).to_have_attribute("open", "")
    shop.publish(range(100, 105), "orders")
    person.sees("published109")
    expect(person.page.locator("#leases")).to_have_attribute("open", "")
    assert "1 batch in flight" in person.at


def test_7_sign_in_and_out(person: Person) -> None:
    person.sign_in()
    person.follow("Sign out")
    person.sees("Sign in")


def test_8_find_why_records_died(person: Person) -> None:
    person.follow("dead letters of orders")
    person.type("Reason holds", "json")
    with person.page.expect_navigation():
        person.press("Enter")
    expect(person.page.locator("tbody tr")).to_have_count(3)
    person.follow("All")
    person.follow("Older")
    expect(person.page.locator("tbody tr")).to_have_count(25)


def test_9_look_at_the_bytes_of_one_and_save_them(person: Person, tmp_path: Path) -> None:
    person.follow("dead letters of orders")
    person.go_to("All on this page")
    person.go_to("Letter of")
    person.press("Tab")
    with person.page.expect_navigation():
        person.press("Enter")
    person.follow("Bytes")
    person.sees("00000000  7b")
    person.go_to("Download all")
    with person.page.expect_download() as saved:
        person.press("Enter")
    assert Path(saved.value.path()).read_bytes() == b"{"


def test_10_mend_one_and_put_it_back(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders/dead?reason=no+json")
    person.go_to("Letter of")
    person.press("Tab")
    with person.page.expect_navigation():
        person.press("Enter")
    person.type("The record, as it will be put back", '{"n": 999}')
    person.follow("Put back as edited")
    person.sees("put back on the list as edited")
    shop.deliver_the_rest()
    assert {"n": 999} in shop.records("orders")


def test_11_tick_two_and_put_them_back_once_counted(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders/dead")
    for _ in range(2):
        person.go_to("Letter of")
        person.press("Space")
    for _ in range(23):
        person.go_to("Letter of")
    person.follow("Put back on the list…")
    person.sees("Put back on the list: 2 dead letters of orders?")
    person.follow("Put back on the list (2)")
    person.sees("2 put back on the list")
    assert shop.books("orders").dead == 61


def test_12_drop_those_of_one_reason_once_counted(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders")
    person.follow("model: no price in …")
    person.follow("Drop for good…")
    person.sees("Drop for good: 60 dead letters of orders?")
    person.follow("Leave them")
    assert shop.books("orders").dead == 63
    person.follow("Drop for good…")
    person.follow("Drop for good (60)")
    person.sees("60 dropped")
    with shop.queue("orders") as queue:
        eventually(lambda: [letter.reason for letter in DeadLetters(queue).newest()] == ["no JSON"] * 3)


def test_13_pause_the_consumers_and_say_why(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders")
    person.follow("Pause…")
    person.go_to("Pause producers")
    person.type("Why, for whoever looks", "the lake is moved")
    person.follow("Pause consumers")
    person.sees("consumers are paused")
    person.sees("by the page: the lake is moved")
    assert list(shop.books("orders").paused) == ["consumers"]
    person.follow("Resume consumers")
    person.sees("consumers go on")
    assert shop.books("orders").paused == {}


def test_14_have_the_source_read_from_elsewhere_once_told_what_it_means(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders/steer")
    person.type("The position to read from", '"7"')
    person.follow("Move the checkpoint…")
    person.sees("It becomes")
    person.sees("That means")
    person.follow("Leave it")
    assert shop.books("orders").checkpoints == {}
    person.type("The position to read from", '"7"')
    person.follow("Move the checkpoint…")
    person.follow("Move it")
    person.sees("the checkpoint is moved; it was none")
    assert shop.books("orders").checkpoints == {"orders": "7"}
    person.follow("Read from the beginning…")
    person.follow("Take it away")
    person.sees('it was "7"')
    assert shop.books("orders").checkpoints == {}


def test_15_purge_what_waits_into_dead_letters_once_counted(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders/steer")
    person.type("Why they go", "yesterday, once more")
    person.follow("Set them aside…")
    person.sees("Purge 35 records of orders?")
    person.follow("Set aside (35)")
    person.sees("35 records became dead letters")
    assert (shop.books("orders").ready, shop.books("orders").dead) == (0, 63 + 35)


def test_16_requeue_a_batch_whose_consumer_stands_still(person: Person, shop: Place) -> None:
    person.sign_in()
    person.page.goto(person.page.url + "flows/orders/steer")
    person.follow("Requeue")
    person.sees("Take 5 records of orders from their consumer?")
    person.follow("Requeue (5)")
    person.sees("its lease is good for")
    person.page.go_back()
    person.page.go_back()
    person.go_to("though its lease is good")
    person.press("Space")
    person.go_to("Requeue")
    with person.page.expect_navigation():
        person.press("Enter")
    person.follow("Requeue (5)")
    person.sees("5 records can be taken over at once")
    shop.deliver_the_rest()
    assert len(shop.records("orders")) == 40
