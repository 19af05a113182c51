"""Auth: how a source or a sink says who it is. Secrets, shown nowhere and sent to the flow's host alone."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal

import requests
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from millrace_pipeline.errors import AuthRefused, AuthUnavailable, ConfigError, MillraceError
from millrace_pipeline.flows.reference import load_object
from millrace_pipeline.web import checked_headers, checked_url, sendable
from millrace_pipeline.websession import Sign


class _Auth(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def headers(self) -> dict[str, str]:
        """The request headers that say it."""
        return {}

    def params(self) -> dict[str, str]:
        """The query parameters that say it."""
        return {}

    def sign(self) -> Sign | None:
        """What has the last word on a request, where something has. It raises AuthUnavailable and AuthRefused."""
        return None

    def secrets(self) -> list[str]:
        """What must not be shown."""
        return [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]


def _one_line(value: SecretStr) -> SecretStr:
    if not sendable(value.get_secret_value()):
        raise ValueError("holds a line break, a NUL, or blanks at an end")
    return value


class Bearer(_Auth):
    """`Authorization: Bearer …`."""

    type: Literal["bearer"]
    token: SecretStr = Field(min_length=1, description="The token.")

    _sendable = field_validator("token")(_one_line)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class Basic(_Auth):
    """`Authorization: Basic …`."""

    type: Literal["basic"]
    username: str = Field(description="The user.")
    password: SecretStr = Field(default=SecretStr(""), description="The password.")

    def headers(self) -> dict[str, str]:
        pair = f"{self.username}:{self.password.get_secret_value()}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


class HeaderKey(_Auth):
    """A header of another name, such as `X-Api-Key`."""

    type: Literal["header"]
    name: str = Field(min_length=1, description="The header's name.")
    value: SecretStr = Field(min_length=1, description="Its value.")

    _sendable = field_validator("value")(_one_line)

    @field_validator("name")
    @classmethod
    def _a_name(cls, name: str) -> str:
        checked_headers({name: ""})
        return name

    def headers(self) -> dict[str, str]:
        return {self.name: self.value.get_secret_value()}


class QueryKey(_Auth):
    """A query parameter, such as `api_key`."""

    type: Literal["query"]
    name: str = Field(min_length=1, description="The parameter's name.")
    value: SecretStr = Field(min_length=1, description="Its value.")

    def params(self) -> dict[str, str]:
        return {self.name: self.value.get_secret_value()}


class OAuth2(_Auth):
    """`Authorization: Bearer …`, with a token that is asked for, and asked for anew before it has expired."""

    type: Literal["oauth2"]
    token_url: str = Field(repr=False, description="Where tokens are given; http or https.")
    client_id: str = Field(min_length=1, description="Who asks for them.")
    client_secret: SecretStr = Field(default=SecretStr(""), description="The client's secret.")
    refresh_token: SecretStr | None = Field(
        default=None, description="Asks with this (grant_type refresh_token) and not as the client itself."
    )
    scope: str | None = Field(default=None, description="What for, in words of the server.")
    parameters: dict[str, str] = Field(
        default_factory=dict, repr=False, description="Further parameters of the question, such as audience."
    )
    client_in: Literal["header", "body"] = Field(
        default="header", description="Where the client's id and secret go: Authorization: Basic, or parameters."
    )

    @field_validator("token_url")
    @classmethod
    def _an_http_url(cls, url: str) -> str:
        return checked_url(url, "https://auth.example.org/oauth/token")


class Signed(_Auth):
    """By a function of one's own, which signs each request: HMAC, AWS SigV4."""

    type: Literal["function"]
    function: str = Field(
        description="What is called with each request (a requests.PreparedRequest) and returns it, as module:name: a "
        "function, or any auth object for requests."
    )

    _found: Any = PrivateAttr()

    @model_validator(mode="after")
    def _it_can_be_called(self) -> Signed:
        try:
            self._found = load_object(self.function)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if isinstance(self._found, type) or not callable(self._found):
            raise ValueError(f"{self.function} can't be called with a request: expected a function, or an auth object")
        return self

    def sign(self) -> Sign:
        return self._signed

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            signed = self._found(request)
        except MillraceError:
            raise
        except Exception as error:
            raise AuthUnavailable(f"{self.function} failed: {type(error).__name__}: {error}") from error
        if not isinstance(signed, requests.PreparedRequest):
            raise AuthRefused(
                f"{self.function} returned {type(signed).__name__}, expected the request that it was given"
            )
        return signed


Auth = Annotated[Bearer | Basic | HeaderKey | QueryKey | OAuth2 | Signed, Field(discriminator="type")]


def refuse_two(auth: Any, headers: dict[str, str], params: dict[str, Any]) -> None:
    """Raises ValueError where a header or query parameter stands there, and `auth` sends one of that name, too."""
    if auth is None:
        return
    if auth.type == "query":
        if auth.name in params:
            raise ValueError(f"params and auth both have {auth.name}: expected one of them")
    elif auth.type != "function":
        sent = auth.name if auth.type == "header" else "Authorization"
        if sent.lower() in map(str.lower, headers):
            raise ValueError(f"headers and auth both have {sent}: expected one of them")
