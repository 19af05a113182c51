"""Credentials: what a request to the flow's own host bears to say who asks; a token is fetched first."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote_plus, urlencode

import requests
import structlog
import urllib3

from millrace_pipeline.auth import Auth, OAuth2
from millrace_pipeline.errors import AuthRefused
from millrace_pipeline.failure import Failure
from millrace_pipeline.web import is_not_now, shown, status_text, wait_asked_for
from millrace_pipeline.websession import Sign, WebSession

MOST_TOKEN_BYTES = 1024 * 1024
EARLY_SECONDS = 30.0
"""A token is replaced so long before it expires, or at the half of its time, if that is shorter."""

_SAID = ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type")

NewSession = Callable[[], WebSession]


class Credentials:
    """What an `auth` option stands for, while a source is read or a sink written. Says nothing where there is none.

    `session` makes what a token is asked for with; `why` tells why that gave no answer, in words without secrets.
    """

    def __init__(
        self,
        auth: Auth | None,
        session: NewSession,
        *,
        timeout: tuple[float, float],
        why: Callable[[BaseException], str],
    ) -> None:
        self._auth = auth
        self._token = _Token(auth, session, timeout, why) if isinstance(auth, OAuth2) else None
        self.params: Mapping[str, str] = auth.params() if auth else {}
        self.sign: Sign | None = auth.sign() if auth else None
        self._fixed = auth.headers() if auth else {}

    def headers(self) -> dict[str, str] | Failure:
        """The request headers that say it; or why there are none now. Raises AuthRefused where no token is given."""
        if self._token is None:
            return self._fixed
        token = self._token.current()
        return token if isinstance(token, Failure) else {"Authorization": f"Bearer {token}"}

    def renewed(self, status: int) -> bool:
        """Whether to ask again, as somebody new, after an answer of this status."""
        return self._token is not None and self._token.renewed(status)

    def secrets(self) -> list[str]:
        """What they say and nobody else is to see, each word by itself."""
        token = self._token.value if self._token is not None else None
        said = [*(self._auth.secrets() if self._auth else ()), *self._fixed.values(), *([token] if token else ())]
        return [word for text in said for word in text.split()]

    def close(self) -> None:
        """Close the connections."""
        if self._token is not None:
            self._token.close()


class _Token:
    """An access token (RFC 6749), fetched when it is needed and kept until it is about to expire."""

    def __init__(
        self,
        auth: OAuth2,
        session: NewSession,
        timeout: tuple[float, float],
        why: Callable[[BaseException], str],
    ) -> None:
        self._auth = auth
        self._timeout = timeout
        self._why = why
        self._new_session = session
        self._session: WebSession | None = None
        self._refresh = auth.refresh_token.get_secret_value() if auth.refresh_token else None
        self.value: str | None = None
        self._until = 0.0
        self._served = False
        """Whether the server has taken this token."""
        self._log = structlog.get_logger().bind(url=shown(auth.token_url))

    def current(self) -> str | Failure:
        if self.value is None or time.monotonic() >= self._until:
            failure = self._fetch()
            if failure is not None:
                return failure
        assert self.value is not None
        return self.value

    def renewed(self, status: int) -> bool:
        if status != HTTPStatus.UNAUTHORIZED:
            self._served = True
            return False
        served, self._served, self.value = self._served, False, None
        return served

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _fetch(self) -> Failure | None:
        self._session = self._session or self._new_session()
        headers, body = self._question()
        failure = None
        try:
            with self._session.ask(
                "POST", self._auth.token_url, headers=headers, body=body, timeout=self._timeout
            ) as answer:
                said = answer.raw.read(MOST_TOKEN_BYTES, decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = Failure(f"no token from {shown(self._auth.token_url)}: {self._why(error)}")
        return failure or self._take(answer, said)

    def _question(self) -> tuple[dict[str, str | bytes], bytes]:
        auth, secret = self._auth, self._auth.client_secret.get_secret_value()
        fields = {"grant_type": "client_credentials"}
        if self._refresh is not None:
            fields = {"grant_type": "refresh_token", "refresh_token": self._refresh}
        if auth.scope is not None:
            fields["scope"] = auth.scope
        headers: dict[str, str | bytes] = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        if auth.client_in == "header":
            pair = f"{quote_plus(auth.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            fields |= {"client_id": auth.client_id} | ({"client_secret": secret} if secret else {})
        return headers, urlencode(fields | auth.parameters).encode()

    def _take(self, answer: requests.Response, said: bytes) -> Failure | None:
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            value = None
        found = value if isinstance(value, dict) else {}
        status = answer.status_code
        if is_not_now(status, answer.headers):
            reason = f"no token from {shown(self._auth.token_url)}: answered {status_text(status)}"
            return Failure(reason, wait_asked_for(answer.headers))
        token = found.get("access_token")
        if status != HTTPStatus.OK or not isinstance(token, str) or not token or not token.isprintable():
            why = f": {found['error']}" if found.get("error") in _SAID else ""
            raise AuthRefused(f"{shown(self._auth.token_url)}: gave no token, answered {status_text(status)}{why}")
        seconds = found.get("expires_in")
        try:
            lasts = float(seconds) if seconds is not None else float("inf")
        except (TypeError, ValueError):
            lasts = float("inf")
        self.value, self._served = token, False
        self._until = time.monotonic() + max(lasts - EARLY_SECONDS, lasts / 2)
        renewed = found.get("refresh_token")
        if self._refresh is not None and isinstance(renewed, str) and renewed and renewed != self._refresh:
            self._refresh = renewed
            self._log.warning(
                "refresh_token_replaced", mend="it is known here alone: after a restart the flow's own is sent again"
            )
        return None
