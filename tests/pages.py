"""Pages: `millrace ui` as a process of its own, and a browser without a screen, for tests of what it answers."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import requests

from tests.services import Place, Service

TOKEN = "a-token-that-nobody-can-guess"
ADDRESS = re.compile(r"Millrace is at (\S+)")
LINK = re.compile(r"works once: (\S+)")


class Ui:
    """A page that is served, and one who looks at it. `http` keeps his cookies."""

    def __init__(self, place: Place, *arguments: str, writes: bool = True, port: int = 0, **environ: str) -> None:
        if writes:
            environ = {"MILLRACE_OPERATOR_URL": place.redis_url, "MILLRACE_UI_TOKEN": TOKEN} | environ
        self.service: Service = place.start("ui", "--port", str(port), *arguments, **environ)
        self.service.until(lambda: ADDRESS.search(self.service.said))
        found = ADDRESS.search(self.service.said)
        assert found is not None
        self.address = found[1]
        self.http = requests.Session()
        self.http.trust_env = False
        self.service.until(self._answers)

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    @property
    def links(self) -> list[str]:
        """The links that it has printed."""
        return LINK.findall(self.service.said)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.http.get(urljoin(self.address, path), timeout=30, **options)

    def post(self, path: str, fields: Any = (), **options: Any) -> requests.Response:
        return self.http.post(urljoin(self.address, path), data=fields, timeout=60, **options)

    def page(self, path: str, status: int = 200) -> str:
        """What stands at this address, which must be answered so."""
        answer = self.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    def sign_in(self) -> None:
        answer = self.post("/sign-in", {"token": TOKEN})
        assert "Sign out" in answer.text, answer.text

    def form(self, path: str, action: str = "") -> dict[str, str]:
        """The hidden fields of the form there that is sent to this address."""
        forms = re.findall(r'<form[^>]*method="post"[^>]*>.*?</form>', self.page(path), re.DOTALL)
        wanted = [form for form in forms if (f'action="{action}"' in form if action else "action=" not in form)]
        assert wanted, forms
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', wanted[0])
        return {name: html.unescape(value) for name, value in fields}

    def answer_yes(self, path: str) -> str:
        """Ask for something that is to be confirmed, confirm it, and return the page behind that."""
        return self.post(path.partition("?")[0], self.form(path)).text

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """The events of a live page, for as long as they are asked for."""
        with self.get(path, stream=True) as answer:
            assert answer.status_code == 200, answer.text
            name = ""
            for line in answer.iter_lines():
                if line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    yield name, json.loads(line[6:])

    def _answers(self) -> bool:
        try:
            return self.get("/livez").status_code == 200
        except requests.ConnectionError:
            return False


def text_of(page: str) -> str:
    """The words of a page, with single spaces between them."""
    page = re.sub(r"<(script|style|title|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def paths_in(page: str) -> set[str]:
    """Where the links of a page lead, on this site."""
    return {html.unescape(path) for path in re.findall(r'(?:href|src)="(/[^"]*)"', page)}
