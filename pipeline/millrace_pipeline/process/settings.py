"""Settings: what the environment says. Everything else is in `flows.yaml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import Share
from millrace_pipeline.process.listening import places_in

DEFAULT_REDIS_URL = "redis://localhost:6379/0"
LEAST_TOKEN = 16
"""A token of so many characters is not guessed."""
_NO_URL = (
    "expected redis://user:password@host:6379/0, rediss://… for TLS, unix:///path/to/socket, "
    "redis+cluster://host:6379,host2:6379/ or redis+sentinel://host:26379,host2:26379/primary/0 "
    "(in a password, write @ : / as %40 %3A %2F); what is there is not shown, as it may hold a password"
)
_SEVERAL_PLACES = re.compile(
    r"rediss?\+(sentinel://{hosts}/[^/?#]+(/\d*)?|cluster://{hosts}(/0?)?)(\?[^#]*)?".replace(
        "{hosts}", "([^@/?#]*@)?{host}(,{host})*"
    ).replace("{host}", r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d{1,5})?")
)


def _addresses(value: Any) -> Any:
    return places_in(value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _names(value: Any) -> Any:
    return tuple(filter(None, map(str.strip, value.lower().split(",")))) if isinstance(value, str) else value


Addresses = Annotated[tuple[tuple[str, int], ...], BeforeValidator(_addresses)]
"""Hosts and ports. Written `host:port,host:port`; a port alone is on loopback."""


class Settings(BaseSettings):
    """One field a variable; units are in the names. An empty variable counts as none."""

    model_config = SettingsConfigDict(
        env_prefix="MILLRACE_",
        env_ignore_empty=True,
        case_sensitive=False,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    redis_url: SecretStr | None = Field(None, validation_alias="REDIS_URL")
    """Where Redis is. Ask `millrace.server` instead, which knows the file, this folder's own server and the default."""
    redis_url_file: Path | None = Field(None, validation_alias="REDIS_URL_FILE")
    """A file that holds the URL: a Docker or Kubernetes secret. REDIS_URL goes before it."""
    default_redis_url: SecretStr = SecretStr(DEFAULT_REDIS_URL)
    """MILLRACE_DEFAULT_REDIS_URL: another default, for tests, which can't take port 6379 for theirs."""
    flows: Path = Path("flows.yaml")
    """MILLRACE_FLOWS: the flows file."""
    http: Annotated[Addresses | None, NoDecode] = None
    """MILLRACE_HTTP: where /metrics, /livez and /readyz answer; None is nowhere. Port 0 is any free one. Of a name's
    addresses those of this machine."""
    operator_url: SecretStr | None = None
    """MILLRACE_OPERATOR_URL: that Redis as the user by whom `millrace ui` changes things."""
    operator_url_file: Path | None = None
    """MILLRACE_OPERATOR_URL_FILE: a file that holds it. MILLRACE_OPERATOR_URL goes before it."""
    ui_token: SecretStr | None = None
    """MILLRACE_UI_TOKEN: who knows it may change things by `millrace ui`."""
    ui_token_file: Path | None = None
    """MILLRACE_UI_TOKEN_FILE: a file that holds it. MILLRACE_UI_TOKEN goes before it."""
    ui_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    """MILLRACE_UI_HOSTS: names, with commas between, by which browsers may ask for the page besides localhost."""
    log: Annotated[Literal["auto", "json", "pretty"], BeforeValidator(_lower)] = "auto"
    """MILLRACE_LOG: `auto` is pretty on a terminal and JSON elsewhere."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    """MILLRACE_LOG_LEVEL: nothing below it is logged."""
    traces: Share | None = None
    """MILLRACE_TRACES: so many publishes are traced, `1%`, in flows that say nothing of `traces`; None is none."""
    redis_seconds: float = Field(30.0, ge=0, le=86_400, allow_inf_nan=False)
    """MILLRACE_REDIS_SECONDS: how long a Redis that isn't there when a service starts may take to come up."""
    grace_seconds: float = Field(20.0, ge=0, le=86_400, allow_inf_nan=False)
    """MILLRACE_GRACE_SECONDS: how long a service drains after SIGTERM before it gives back what it holds."""

    @field_validator("redis_url", "operator_url")
    @classmethod
    def _a_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _is_redis_url(url.get_secret_value()):
            raise ValueError(_NO_URL)
        return url

    @classmethod
    def load(cls) -> Settings:
        """The settings of this process's environment.

        Raises ConfigError naming each variable that is wrong and what was expected, but not what it held.
        """
        try:
            settings = cls()
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False)
        else:
            _ = settings.url
            return settings
        raise ConfigError("\n".join(f"{_variable(found['loc'])}: {_told(found)}" for found in details))

    @property
    def redis_url_is_set(self) -> bool:
        """Whether somebody said which Redis to use."""
        return self.redis_url is not None or self.redis_url_file is not None

    @property
    def url(self) -> str:
        """The address that was told, or else the default, secrets included: `millrace.server` knows if that will do.

        Raises ConfigError where REDIS_URL_FILE is of no use.
        """
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_url_file is None:
            return self.default_redis_url.get_secret_value()
        return _url_in(self.redis_url_file, "REDIS_URL_FILE")

    @property
    def operator(self) -> str | None:
        """The address for who changes things, secrets included; None where nothing says it. Raises ConfigError."""
        if self.operator_url is not None:
            return self.operator_url.get_secret_value()
        file = self.operator_url_file
        return None if file is None else _url_in(file, "MILLRACE_OPERATOR_URL_FILE")

    @property
    def token(self) -> str | None:
        """What one has to know to change things by `millrace ui`; None where nothing says it. Raises ConfigError."""
        told, name = None, "MILLRACE_UI_TOKEN"
        if self.ui_token is not None:
            told = self.ui_token.get_secret_value().strip()
        elif self.ui_token_file is not None:
            name = f"MILLRACE_UI_TOKEN_FILE: in {self.ui_token_file}"
            told = _text_in(self.ui_token_file, "MILLRACE_UI_TOKEN_FILE")
        if told is not None and not (len(told) >= LEAST_TOKEN and told.isascii() and told.isprintable()):
            raise ConfigError(f"{name}: expected {LEAST_TOKEN} letters or digits or more: `openssl rand -hex 32`")
        return told

    def with_redis_url(self, url: str) -> Settings:
        """The same settings for another Redis."""
        return self.model_copy(update={"redis_url": SecretStr(url), "redis_url_file": None})


def _text_in(file: Path, variable: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{variable}: can't read {file}: {reason}") from None


def _url_in(file: Path, variable: str) -> str:
    url = _text_in(file, variable)
    if not _is_redis_url(url):
        raise ConfigError(f"{variable}: in {file}: {_NO_URL}")
    return url


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return bool(parts.path)
        if "+" in parts.scheme:
            return bool(_SEVERAL_PLACES.fullmatch(url))
        database = parts.path.strip("/")
        _ = parts.port  # raises ValueError for one that is no number
    except ValueError:
        return False
    return parts.scheme in ("redis", "rediss") and not parts.fragment and (database.isdigit() or not database)


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0])
    return name if name.isupper() else f"MILLRACE_{name.upper()}"


def _told(mistake: Any) -> str:
    message = str(mistake["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    return message.partition(", unable to parse")[0]
