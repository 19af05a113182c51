"""Targets: where a notice goes to: the log, a webhook, a command. Each raises NotTold where it could not be told."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import structlog

from millrace_pipeline.alerting.notice import Notice
from millrace_pipeline.flows.alerts import NotifyOptions
from millrace_pipeline.process.supervisor import SERVICE, SUPERVISED

if TYPE_CHECKING:
    from millrace_pipeline.websession import WebSession

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
COMMAND_SECONDS = 30.0
SAID = 300
"""So much of what a command said is logged where it fails."""


class NotTold(Exception):
    """A notice was not told, and why, without secrets; `retry_after` seconds are asked for, where they are."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


Tell = Callable[[Notice], None]


def targets_of(notify: NotifyOptions) -> dict[str, Tell]:
    """Return where the notices of a flow go to, by name."""
    found: dict[str, Tell] = {"log": _log}
    if notify.webhook is not None:
        found["webhook"] = Webhook(notify).tell
    if notify.command:
        found["command"] = lambda notice: _run(notify.command or [], notice)
    return found


def _log(notice: Notice) -> None:
    tell = log.warning if notice.state == "raised" else log.info
    tell(
        notice.event,
        flow=notice.flow,
        alert=notice.rule,
        id=notice.id,
        value=notice.value,
        since=notice.since,
        text=notice.text,
    )


class Webhook:
    """Posts notices, signed where there is a secret. One at a time."""

    def __init__(self, notify: NotifyOptions) -> None:
        self._notify = notify
        self._session: WebSession | None = None

    def tell(self, notice: Notice) -> None:
        """Post it. A 2xx is an answer, everything else is tried again."""
        import requests
        import urllib3

        from millrace_pipeline.web import shown, status_text, wait_asked_for, why_no_answer
        from millrace_pipeline.websession import WebSession

        assert self._notify.webhook is not None
        if self._session is None:
            self._session = WebSession(
                headers=ANSWER_SECONDS, answer=ANSWER_SECONDS, proxy=self._notify.proxy, ca_file=self._notify.ca_file
            )
        url, body = self._notify.webhook.get_secret_value(), msgspec.json.encode(notice)
        failure = None
        try:
            answer = self._session.ask(
                *("POST", url), headers=self._headers(notice, body), timeout=(ANSWER_SECONDS, ANSWER_SECONDS), body=body
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = why_no_answer(error, connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS)
        host = shown(url).split("/")[2]  # the path of a webhook is its password
        if failure:
            raise NotTold(f"the webhook at {host}: {failure}")
        answer.close()
        if answer.status_code // 100 != 2:
            raise NotTold(
                f"the webhook at {host} answered {status_text(answer.status_code)}", wait_asked_for(answer.headers)
            )

    def _headers(self, notice: Notice, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{notice.id}/{notice.state}"}
        if self._notify.secret is not None:
            moment = str(int(time.time()))
            secret = self._notify.secret.get_secret_value().encode()
            signed = hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256)
            headers["Millrace-Signature"] = f"t={moment},v1={signed.hexdigest()}"
        return headers


def _run(words: list[str], notice: Notice) -> None:
    ours = {name: value for name, value in os.environ.items() if name not in (SERVICE, SUPERVISED)}
    about = {"MILLRACE_ALERT": notice.rule, "MILLRACE_ALERT_STATE": notice.state, "MILLRACE_ALERT_TEXT": notice.text}
    try:
        ended = subprocess.run(
            words,
            input=msgspec.json.encode(notice),
            env={**ours, **about, "MILLRACE_ALERT_FLOW": notice.flow, "MILLRACE_ALERT_ID": notice.id},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotTold(f"the command {words[0]} took longer than {COMMAND_SECONDS:g} s") from None
    except OSError as error:
        raise NotTold(f"the command {words[0]} can't be run: {error.strerror}") from None
    if ended.returncode:
        said = " ".join(ended.stdout.decode(errors="replace").split())[-SAID:]
        raise NotTold(f"the command {words[0]} ended with exit code {ended.returncode}{said and ': '}{said}")
