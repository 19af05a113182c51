"""Asking: how flows stand, by a `millrace scaler`, for who can't reach their Redis."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import msgspec

from millrace.scaling.watch import Reading
from millrace_pipeline.errors import ConfigError

ANSWER_SECONDS = 3.0


class Asking:
    """Asks the scaler at an address such as http://127.0.0.1:9191. Not for several threads at once."""

    def __init__(self, url: str, flows: Sequence[str]) -> None:
        """Raises ConfigError for an address that is none."""
        parts = urlsplit(url)
        try:
            self._port = parts.port
        except ValueError:
            self._port = None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("--scaler: expected an address such as http://127.0.0.1:9191")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host = parts.hostname
        self._path = parts.path.rstrip("/")
        self._flows = flows

    def look(self, now: float) -> dict[str, Reading | str]:
        """Return how each flow stood at the scaler's last look, or why that can't be told."""
        return {flow: self._ask(flow, now) for flow in self._flows}

    def _ask(self, flow: str, now: float) -> Reading | str:
        connection = self._kind(self._host, self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", f"{self._path}/scale/{quote(flow, safe='')}")
            answer = connection.getresponse()
            told = msgspec.json.decode(answer.read())
            if answer.status != 200:
                return str(told["error"])
            reading = msgspec.convert(told, Reading)
        except (OSError, http.client.HTTPException) as error:
            return f"the scaler doesn't answer: {error}"
        except (msgspec.MsgspecError, KeyError, TypeError):
            return "what answers is no scaler of this version"
        finally:
            connection.close()
        return msgspec.structs.replace(reading, seen=msgspec.structs.replace(reading.seen, moment=now))
