"""Web options: what every source that connects to a server lets one set."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from millrace_pipeline.auth import Auth, refuse_two
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.web import checked_headers, sendable
from millrace_pipeline.websession import SessionOptions, own_version
from millrace_producer.sources.retry import Retry

Wait = Annotated[Duration, Field(gt=0, le=86_400)]


class WebOptions(SessionOptions):
    """The options of a source that connects to a server."""

    headers: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Further request headers, such as Authorization."
    )
    auth: Auth | None = Field(
        default=None, description="How to say who we are: bearer, basic, header, query, oauth2 or function."
    )
    user_agent: str = Field(
        default_factory=lambda: f"Millrace/{own_version()} (web to queue pipeline; Python)",
        min_length=1,
        description="User-Agent header. Many sites ask for a way to contact you in it.",
    )
    connect_timeout: Wait = Field(default=10, description="How long to wait for a connection.")
    max_redirects: int = Field(default=5, ge=0, le=50, description="Redirects to follow at a time.")
    allow_private: bool = Field(
        default=False,
        description="Follow what leads to other hosts also where those have loopback, link-local or private addresses.",
    )
    max_failures: int = Field(
        default=5, ge=1, description="Failures in a row, nothing read between them, until the source is unavailable."
    )
    backoff_initial: Wait = Field(
        default=1, description="The longest wait after a first failure; it doubles with each further one."
    )
    backoff_max: Wait = Field(
        default=30, description="The longest wait; the source is unavailable where the server asks for more."
    )

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return checked_headers(headers)

    @model_validator(mode="after")
    def _auth_sends_its_own(self) -> Self:
        refuse_two(self.auth, self.headers, getattr(self, "params", {}))
        return self

    @field_validator("user_agent")
    @classmethod
    def _one_line(cls, user_agent: str) -> str:
        if not sendable(user_agent):
            raise ValueError("holds a line break, a NUL, or blanks at an end")
        return user_agent

    def retry(self, place: str, event: str) -> Retry:
        """How long to go on with a server that fails; see `Retry`."""
        return Retry(place, event, first=self.backoff_initial, cap=self.backoff_max, failures=self.max_failures)
