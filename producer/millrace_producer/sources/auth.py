"""Auth: how a source says who it is. Secrets, shown nowhere and sent to the flow's host alone."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from millrace_pipeline.web import checked_headers, sendable


class _Auth(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def headers(self) -> dict[str, str]:
        """The request headers that say it."""
        return {}

    def params(self) -> dict[str, str]:
        """The query parameters that say it."""
        return {}


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


Auth = Annotated[Bearer | Basic | HeaderKey | QueryKey, Field(discriminator="type")]
