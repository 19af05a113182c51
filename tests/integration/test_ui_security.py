"""`millrace ui`: who may look, who may change what, and what no page, log or address ever holds."""

from __future__ import annotations

import re
import socket
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
import redis

from millrace.embedded import Embedded
from millrace.ui.app import ASSETS
from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.moment import now
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.pausing import pause
from millrace_pipeline.queue.presence import Doing, beat
from millrace_pipeline.queue.troubles import tell_trouble
from millrace_pipeline.queue.variants import variant_of
from tests.conftest import eventually
from tests.pages import TOKEN, Ui, paths_in, text_of
from tests.services import NOWHERE, Place

PLANTED = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
SECRET = "hunter2-hunter2-hunter2"


def a_letter(place: Place, content: bytes = b"{", reason: str = "no JSON") -> str:
    """Set a dead letter aside, and return where its page is."""
    with place.queue() as queue:
        queue.publish([], dead=[DeadLetter(content, reason)])
        return f"/flows/numbers/dead/{next(DeadLetters(queue).newest()).id}"


def a_variant(place: Place, data: object, reason: str, id: str = "v-1", flow: str = "numbers") -> None:
    with place.queue(flow) as queue, redis.Redis.from_url(place.redis_url) as client:
        line = encode(Record(data), id=id, source=flow, time=now(), mark=queue.keys.ready)
        client.lpush(queue.keys.variants, variant_of(line, reason))
        client.hincrby(queue.keys.counters, "published", 1)


def inline_in(page: str) -> list[str]:
    """What a browser would run, or style, of the page's own text."""
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            names = {name for name, _ in attrs}
            if tag in ("img", "style", "iframe", "object") or (tag == "script" and "src" not in names):
                found.append(tag)
            found.extend(name for name in names if name.startswith("on") or name == "style")

    Parser().feed(page)
    return found


def walk(ui: Ui) -> dict[str, str]:
    """Every page that links lead to from the first one."""
    found: dict[str, str] = {}
    waiting = ["/", "/sign-in", "/flows/nobody"]
    while waiting:
        path = waiting.pop()
        if path.partition("?")[0] in {known.partition("?")[0] for known in found} or path.startswith("/static"):
            continue
        answer = ui.get(path)
        if "text/html" in answer.headers["Content-Type"]:  # and no file to be saved
            found[path] = answer.text
            waiting += paths_in(answer.text)
    return found


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8484", "127.0.0.1.evil.example", "", "localhost@evil.example"]
)
def test_a_host_that_is_none_of_ours_gets_no_answer(place: Place, host: str) -> None:
    place.flow()
    ui = Ui(place)
    assert ui.get("/", headers={"Host": host}).status_code in (400, 421)
    assert ui.get("/live", headers={"Host": host}).status_code in (400, 421)


def test_a_host_that_was_named_does(place: Place) -> None:
    place.flow()
    ui = Ui(place, MILLRACE_UI_HOSTS="lake.example, Other.example")
    for host in ("lake.example", "other.example:80", f"localhost:{ui.port}", f"[::1]:{ui.port}"):
        assert ui.get("/", headers={"Host": host}).status_code == 200


def test_it_listens_on_loopback_alone(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", ui.port), timeout=5).close()


@pytest.mark.parametrize(
    "path",
    ["/", "/flows/numbers", "/flows/nobody", "/flows/numbers/dead", "/sign-in", "/static/ui.js", "/livez", "/no"],
)
def test_every_answer_says_what_a_browser_may_do_with_it(place: Place, path: str) -> None:
    place.flow()
    headers = Ui(place).get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "server" not in headers


def test_html_in_every_field_is_text_on_every_page_and_nothing_is_inline(place: Place) -> None:
    place.flow(
        source={**NOWHERE, "url": f"http://127.0.0.1:9/{PLANTED}"}, sink={"type": "jsonl", "path": f"out/{PLANTED}"}
    )
    a_letter(place, f'{{"a": "{PLANTED}"}}'.encode(), PLANTED)
    a_variant(place, {"a": PLANTED}, PLANTED, id=PLANTED)
    place.publish(range(5))
    with place.queue() as queue, redis.Redis.from_url(place.redis_url) as client:
        queue.name = PLANTED
        assert queue.claim(2) is not None
        beat(queue, PLANTED, Doing(PLANTED, 60.0, trouble=PLANTED))
        tell_trouble(queue, PLANTED, None)
        client.hset(queue.keys.checkpoints, PLANTED, msgspec.json.encode({PLANTED: PLANTED}))
        pause(queue, ["consumers"], note=PLANTED)
    ui = Ui(place)
    ui.sign_in()
    pages = walk(ui)
    assert len(pages) >= 12
    for path, page in pages.items():
        assert inline_in(page) == [], path
    shown = pages["/flows/numbers"]
    assert text_of(shown).count(PLANTED) >= 6, shown
    live = next(told for name, told in ui.events("/live?flow=numbers") if name == "parts")
    assert inline_in("".join(live["parts"].values())) == []


FORMS = (
    "/flows/numbers/dead/do/replay",
    "/flows/numbers/dead/do/drop",
    "{letter}/edit",
    "/flows/numbers/variants/do/replay",
    "/flows/numbers/variants/do/drop",
    "/flows/numbers/steer/pause",
    "/sign-out",
)


@pytest.mark.parametrize("path", FORMS)
def test_no_form_is_taken_without_its_session_its_word_and_our_page(place: Place, path: str) -> None:
    place.flow()
    letter = a_letter(place)
    a_variant(place, {"n": 1}, "misfit")
    path = path.format(letter=letter)
    id = letter.rpartition("/")[2]
    fields = {"id": "v-1" if "variants" in path else id, "text": "{}", "through": id, "count": "1"}
    fields["part"] = "consumers"
    ui = Ui(place)
    refused = ui.post(path, fields, allow_redirects=False)
    assert refused.headers["Location"].startswith("/sign-in")
    ui.sign_in()
    word = re.search(r'name="word" value="(\w+)"', ui.page("/"))
    assert word is not None
    assert ui.post(path, fields).status_code == 403
    assert ui.post(path, {**fields, "word": word[1][::-1]}).status_code == 403
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert ui.post(path, {**fields, "word": word[1]}, headers=headers).status_code == 403
    assert ui.post(path, b"x" * 9_000_000).status_code == 413
    books = place.books()
    assert (books.dead, books.variants, books.ready, books.paused) == (1, 1, 0, {})
    done = ui.post(path, {**fields, "word": word[1]}, headers={"Origin": ui.address.rstrip("/")})
    assert done.status_code == 200, done.text
    after = place.books()
    assert path == "/sign-out" or after.paused or (after.dead, after.variants) != (1, 1)


@pytest.mark.parametrize(
    ("arguments", "environ", "why"),
    [
        (("--read-only",), {}, "started with --read-only"),
        ((), {"MILLRACE_OPERATOR_URL": ""}, "set MILLRACE_OPERATOR_URL"),
        ((), {"MILLRACE_UI_TOKEN": ""}, "set MILLRACE_UI_TOKEN"),
        ((), {"MILLRACE_OPERATOR_URL": "", "MILLRACE_UI_TOKEN": ""}, "set MILLRACE_OPERATOR_URL and MILLRACE_UI_TOKEN"),
    ],
)
def test_read_only_it_takes_no_form_and_says_why(
    place: Place, arguments: tuple[str, ...], environ: dict[str, str], why: str
) -> None:
    place.flow()
    letter = a_letter(place)
    ui = Ui(place, *arguments, **environ)
    assert why in ui.service.said
    for path in FORMS:
        refused = ui.post(path.format(letter=letter), {"id": letter.rpartition("/")[2], "text": "{}"})
        assert refused.status_code == 403
        assert why in text_of(refused.text)
    assert why in text_of(ui.page("/flows/numbers/dead/do/drop", 403))
    assert place.books().dead == 1


def test_a_wrong_token_opens_nothing_and_nobody_is_led_elsewhere(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x"):
        answer = ui.post("/sign-in", {"token": wrong})
        assert answer.status_code == 403
        assert not ui.http.cookies
    for to in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx"):
        answer = ui.post("/sign-in", {"token": TOKEN, "to": to}, allow_redirects=False)
        assert answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    for made in ("x", "9999999999.x.y", "9999999999..", cookie.partition("=")[2].partition(";")[0] + "0"):
        assert "Sign in" in ui.get("/", headers={"Cookie": f"millrace-ui-{ui.port}={made}"}).text


def test_on_the_embedded_valkey_a_link_signs_in_once(place: Place) -> None:
    place.flow()
    (place.folder / ".millrace" / "valkey").mkdir(parents=True)
    ui = Ui(place, writes=False, REDIS_URL="")
    (link,) = ui.links
    assert "Sign out" in ui.get(link).text
    eventually(lambda: len(ui.links) == 2)
    ui.http.cookies.clear()
    again = ui.get(link)
    assert "used already" in again.text
    assert "Sign in" in again.text
    assert "Sign out" in ui.get(ui.links[1]).text


def test_private_nobody_looks_without_signing_in(place: Place) -> None:
    place.flow()
    letter = a_letter(place)
    ui = Ui(place, "--private")
    ui.sign_in()
    paths = [*walk(ui), f"{letter}/record"]
    ui.http.cookies.clear()
    for path in [*paths, "/live", "/live?flow=numbers"]:
        if path.startswith("/sign-in"):
            continue
        answer = ui.get(path, allow_redirects=False)
        assert answer.status_code == 303, path
        assert answer.headers["Location"].startswith("/sign-in")
    for name in ASSETS:
        assert ui.get(f"/static/{name}").status_code == 200


def test_no_secret_is_on_a_page_or_in_the_log(place: Place) -> None:
    place.flow(
        source={"type": "sse", "url": f"http://me:{SECRET}@127.0.0.1:9/s?token={SECRET}", "headers": {"X-Key": SECRET}},
        sink={"type": "postgres", "dsn": f"postgresql://u:{SECRET}@127.0.0.1/x", "table": "numbers"},
    )
    letter = a_letter(place)
    with Embedded() as server:
        own = place.at(server.url)
        with redis.Redis.from_url(server.url) as admin:
            admin.execute_command("ACL", "SETUSER", "op", "on", f">{SECRET}", "+@all", "~*", "&*")
        url = f"redis://op:{SECRET}@127.0.0.1:{server.port}/0"
        letter = a_letter(own)
        ui = Ui(own, REDIS_URL=url, MILLRACE_OPERATOR_URL=url, MILLRACE_UI_TOKEN=SECRET)
        ui.post("/sign-in", {"token": SECRET})
        pages = walk(ui)
        assert letter in pages
        pages["live"] = str(next(ui.events("/live?flow=numbers")))
        server.stop()
        pages |= {f"{path} without Redis": page for path, page in walk(ui).items()}
        pages["post"] = ui.post(f"{letter}/edit", {"text": "{}"}).text
        for path, page in pages.items():
            assert SECRET not in page, path
    assert SECRET not in ui.service.said


def test_a_list_of_another_project_is_left_alone(place: Place, tmp_path: Path) -> None:
    place.flow()
    letter = a_letter(place)
    with redis.Redis.from_url(place.redis_url) as client, place.queue() as queue:
        mark = {"name": "theirs", "flow": "x", "source": "y", "sink": "z", "place": "elsewhere"}
        client.hset(queue.keys.project, mapping=mark)
    ui = Ui(place)
    ui.sign_in()
    path = f"/flows/numbers/dead/do/drop?id={letter.rpartition('/')[2]}"
    refused = ui.post(path, ui.form(path))
    assert refused.status_code == 403
    assert "another project's" in text_of(refused.text)
    assert place.books().dead == 1


def test_only_what_is_looked_at_or_sent_is_answered(place: Place) -> None:
    place.flow()
    ui = Ui(place)
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        assert ui.http.request(method, ui.address, timeout=30).status_code == 405
    assert ui.post("/", {"a": "b"}).status_code == 405
