"""Alerts of a flow: what a person wants to be told of, and how."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

from pydantic import Field, PlainValidator, SecretStr, WithJsonSchema, field_validator, model_validator

from millrace_pipeline.cafile import checked_ca_file
from millrace_pipeline.flows.options import Options
from millrace_pipeline.flows.units import Duration, Share, duration_text, seconds
from millrace_pipeline.proxy import checked_proxy

Kind: TypeAlias = Literal["age", "dead", "silent", "null_share", "held_back", "outage"]

_BOUND = re.compile(r"\s*>?\s*(?P<above>\S+?)(?:\s+for\s+(?P<lasting>\S+))?\s*")
LONGEST = 30 * 86_400.0
Wait = Annotated[Duration, Field(gt=0, le=LONGEST)]


class Bound(NamedTuple):
    """More than so much, for so many seconds at a stretch."""

    above: float
    lasting: float


def _parts(value: Any, expected: str) -> tuple[Any, float]:
    if isinstance(value, Bound):
        return value.above, value.lasting
    if not isinstance(value, str):
        return value, 0.0
    match = _BOUND.fullmatch(value)
    if match is None:
        raise ValueError(expected)
    try:
        lasting = seconds(match["lasting"] or 0)
    except ValueError:
        raise ValueError(expected) from None
    return match["above"], lasting


def _age(value: Any) -> Bound:
    expected = 'expected an age such as ">2m" or ">2m for 5m", of 30 days at most'
    above, lasting = _parts(value, expected)
    try:
        bound = Bound(seconds(above), lasting)
    except ValueError:
        raise ValueError(expected) from None
    if max(bound) > LONGEST:
        raise ValueError(expected)
    return bound


def _count(value: Any) -> Bound:
    expected = 'expected a number such as ">0" or ">100 for 5m"'
    above, lasting = _parts(value, expected)
    whole = isinstance(above, int) and not isinstance(above, bool) and above >= 0
    if not (whole or (isinstance(above, str) and above.isascii() and above.isdigit() and len(above) < 16)):
        raise ValueError(expected)
    return Bound(int(above), lasting)


def _schema(example: str) -> WithJsonSchema:
    text = {
        "type": "string",
        "pattern": r"^\s*>?\s*\S+(\s+for\s+\S+)?\s*$",
        "examples": [f">{example}", f">{example} for 5m"],
    }
    return WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, text]})


class NullShare(Options):
    """Too many delivered records without a value in a field."""

    field: str = Field(min_length=1, description="Its name, or a JSON pointer (/price) to it.")
    above: Share = Field(description="Told of when a larger share of the records has none: 20%.")
    over: Duration = Field(300.0, ge=60, le=3600, description="Of what was delivered within this time.")
    at_least: int = Field(20, ge=1, le=10_000, description="Of fewer records than these nothing is said.")


class Alert(Options):
    """One thing to be told of. Exactly one of these."""

    age: Annotated[Bound, PlainValidator(_age), _schema("2m")] | None = Field(
        None, description="The oldest record that waits was published longer ago than this: >2m, or >2m for 5m."
    )
    dead: Annotated[Bound, PlainValidator(_count), _schema("0")] | None = Field(
        None, description="There are more dead letters than this: >0."
    )
    silent: Wait | None = Field(None, description="Nothing was published for so long.")
    null_share: NullShare | None = Field(
        None, description="Of the records delivered in the last minutes too many have no value in a field."
    )
    held_back: Wait | None = Field(
        None, description="For so long producers had to hold back: the list stands at max_ready, or Redis is full."
    )
    outage: Wait | None = Field(None, description="For so long a service could not reach Redis.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Alert:
        named = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(named) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"expected one of {known} in each item of the list, not {len(named)}")
        return self

    @property
    def kind(self) -> Kind:
        """Which of them it is."""
        return next(kind for kind in get_args(Kind) if getattr(self, kind) is not None)

    @property
    def rule(self) -> str:
        """It in words, which name it: `age >2m for 5m`. One that says something else is another alert."""
        if self.null_share is not None:
            share = self.null_share
            return f"null_share {share.field} >{share.above * 100:g}% over {_said(share.over)}"
        value = getattr(self, self.kind)
        if not isinstance(value, Bound):
            return f"{self.kind} {_said(value)}"
        above = _said(value.above) if self.kind == "age" else f"{value.above:g}"
        return f"{self.kind} >{above}" + (f" for {_said(value.lasting)}" if value.lasting else "")

    @property
    def threshold(self) -> float:
        """What the value is measured by: seconds, records, or a share."""
        if self.null_share is not None:
            return self.null_share.above
        value = getattr(self, self.kind)
        return float(value.above if isinstance(value, Bound) else value)

    @property
    def spans(self) -> list[float]:
        """Seconds that it speaks of: who watches looks more often than these."""
        timed = self.kind in ("age", "silent", "held_back", "outage")
        return [span for span in (self.lasting, self.threshold * timed) if span]

    @property
    def lasting(self) -> float:
        """Seconds that it must hold at a stretch before it is told."""
        value = getattr(self, self.kind)
        if isinstance(value, Bound):
            return value.lasting
        return float(value) if self.kind == "held_back" else 0.0


class NotifyOptions(Options):
    """How people are told, beside the log, where each alert is an event."""

    webhook: SecretStr | None = Field(
        None, description="A URL that each notice is posted to as JSON; http or https. It is never logged whole."
    )
    secret: SecretStr | None = Field(
        None, description="What notices to the webhook are signed with, in the header Millrace-Signature."
    )
    command: list[str] | None = Field(
        None, min_length=1, description="A program and its arguments, which gets the notice as JSON on standard input."
    )
    proxy: str | None = Field(None, repr=False, description="The URL of a proxy to the webhook; or environment.")

    ca_file: Path | None = Field(
        None,
        description="A file of the certificates (PEM) that the webhook's may be signed by. Default: those that the "
        "public web trusts, as in certifi.",
    )

    @field_validator("webhook")
    @classmethod
    def _an_http_url(cls, url: SecretStr | None) -> SecretStr | None:
        from millrace_pipeline.web import checked_url

        if url is None or not url.get_secret_value():
            return None
        checked_url(url.get_secret_value(), "https://hooks.example.com/services/T0")
        return url

    @field_validator("command", mode="before")
    @classmethod
    def _words_of_a_line(cls, command: Any) -> Any:
        if not isinstance(command, str):
            return command
        try:
            return shlex.split(command)
        except ValueError as error:
            raise ValueError(f"expected a program and its arguments, as in a shell: {error}") from None

    @field_validator("proxy")
    @classmethod
    def _a_proxy(cls, proxy: str | None) -> str | None:
        return checked_proxy(proxy)

    @field_validator("ca_file")
    @classmethod
    def _a_file(cls, file: Path | None) -> Path | None:
        return checked_ca_file(file)


def _said(duration: float) -> str:
    return duration_text(duration)
