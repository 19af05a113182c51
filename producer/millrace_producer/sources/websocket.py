"""A WebSocket: a server that keeps talking once it was told about what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from millrace_pipeline.comparing import say_kinds_differ
from millrace_pipeline.errors import EnvelopeError
from millrace_pipeline.extras import Extra
from millrace_pipeline.flows.units import Size
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.pointer import resolve
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.web import shown
from millrace_producer.sources.base import DeadLetter, Position, Record, Source, SourceRefused
from millrace_producer.sources.fields import Format
from millrace_producer.sources.heard import Heard
from millrace_producer.sources.recordoptions import RecordOptions
from millrace_producer.sources.weboptions import Wait, WebOptions

if TYPE_CHECKING:
    from millrace_producer.sources.socketclient import SocketClient


class Resume(BaseModel):
    """How to ask the server for what came after a message, where it can be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: str = Field(min_length=1, description="JSON pointer to a message's place in the stream, such as /time_us.")
    parameter: str = Field(min_length=1, description="The query parameter that takes the last one, such as cursor.")


class WebsocketSource(RecordOptions, WebOptions, Source):
    """Listens to a WebSocket, and connects again when it breaks off.

    Every message becomes a record, byte for byte. What was said while nobody listened is lost, unless the server can be
    asked for it by `resume`.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "streams, resumed where the list stopped"
    extra: ClassVar[Extra | None] = Extra("websocket", module="websockets")
    exclusive: ClassVar[bool] = True

    url: str = Field(repr=False, description="Where to listen; ws or wss.")
    subscribe: list[Any] = Field(
        default_factory=list, repr=False, description="What to say once connected: text as it is, all else as JSON."
    )
    subprotocols: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, description="Subprotocols that we speak, the best first, such as graphql-transport-ws."
    )
    ping_message: Any = Field(
        default=None,
        repr=False,
        description="What to say again and again, for a server that hangs up on who is silent: text as it is, all else "
        "as JSON.",
    )
    ping_message_interval: Wait = Field(default=20, description="How often to say it.")
    ignore: list[str | dict[str, Any]] = Field(
        default_factory=list,
        description="Messages that are no records, such as answers and heartbeats: a text that is the whole message, "
        "or a mapping of fields or JSON pointers to what they hold.",
    )
    format: Format = Field(
        default="json",
        description="json: a message is JSON, what is not becomes a dead letter. text: it becomes a JSON string.",
    )
    resume: Resume | None = Field(default=None, description="How to ask for what came after the last message.")
    ping_interval: Wait = Field(default=20, description="Silence after which the server is asked whether it is there.")
    ping_timeout: Wait = Field(default=20, description="How long it may take to answer that.")
    max_message_bytes: Size = Field(
        default=4 * 1024 * 1024, ge=1, description="A larger message is dropped, and the connection made anew."
    )
    end_at_close: bool = Field(
        default=False, description="The source has ended when the server closes in good order, with code 1000."
    )

    _heard: Heard = PrivateAttr(default_factory=Heard)

    @field_validator("url")
    @classmethod
    def _a_websocket_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0 and not parts.fragment
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("expected a URL such as wss://stream.example.org/v1/events")
        if parts.username or parts.password:
            raise ValueError("a user and password in the URL: expected them in auth, as {type: basic, username: …}")
        return url

    @model_validator(mode="after")
    def _it_can_be_heard(self) -> WebsocketSource:
        if self.format == "text" and (self.key or self.time or self.resume):
            raise ValueError("key, time and resume point into JSON, and format is text")
        if any(not said for said in self.ignore):
            raise ValueError("ignore: an empty text or mapping would be every message, or none")
        if "ping_message_interval" in self.model_fields_set and self.ping_message is None:
            raise ValueError("ping_message_interval is how often ping_message is said, and there is none")
        return self

    def probe(self) -> str | None:
        """See `Source.probe`. The connection is made and closed; nothing is said."""
        return self._client(lambda: {}).probe()

    def describe(self, position: Position) -> str:
        """See `Source.describe`. A position is the value of `resume.field`."""
        if not self.resume:
            raise SourceRefused("it has no positions: `resume` names the field that has them")
        if isinstance(position, dict | list | bool) or position is None:
            raise SourceRefused("a position is a value of resume.field: text or a number")
        return f"after the message whose {self.resume.field} is {position}"

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. A position is the value of `resume.field`; without `resume` there are none."""
        if isinstance(resume_from, dict | list | bool):
            raise SourceRefused(f"the checkpoint is a {type(resume_from).__name__}, not a value of resume.field")
        fields = self.fields(self.format)
        position = resume_from if self.resume else None

        def resume() -> Mapping[str, str]:
            return {self.resume.parameter: str(position)} if self.resume and position is not None else {}

        with closing(self._client(resume).messages()) as messages:
            for message in messages:
                if self.ignore and self._is_ignored(message):
                    continue
                position = self._place(message, position)
                yield fields.record(message, position=position)

    def _client(self, resume: Callable[[], Mapping[str, str]]) -> SocketClient:
        # Not before it is used: the library is an extra.
        from millrace_producer.sources.socketclient import Place, SocketClient

        place = Place(
            self.url,
            self.retry(shown(self.url), "websocket_disconnected"),
            self._heard,
            headers={"User-Agent": self.user_agent},
            secret_headers=self.headers,
            auth=self.auth,
            proxy=self.proxy,
            ca_file=self.ca_file,
            subscribe=[_as_said(said) for said in self.subscribe],
            subprotocols=self.subprotocols,
            ping_message=None if self.ping_message is None else _as_said(self.ping_message),
            ping_message_interval=self.ping_message_interval,
            connect_timeout=self.connect_timeout,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            max_message_bytes=self.max_message_bytes,
            max_redirects=self.max_redirects,
            allow_private=self.allow_private,
            end_at_close=self.end_at_close,
        )
        return SocketClient(place, resume)

    def _place(self, message: bytes, before: Position | None) -> Position | None:
        """Where we are after this message: where we were before, if it doesn't say."""
        if self.resume is None:
            return None
        try:
            found = resolve(self.resume.field, decode_json(message))
        except EnvelopeError:
            return before
        if isinstance(found, str | int | float) and not isinstance(found, bool):
            return found
        field, mend = self.resume.field, "the server can't be asked for what follows: is the pointer right?"
        repeats.warn("message_without_position", kind="", of=field, field=field, mend=mend)
        return before

    def _is_ignored(self, message: bytes) -> bool:
        if any(isinstance(said, str) and said.encode() == message.strip() for said in self.ignore):
            return True
        wanted = [said for said in self.ignore if isinstance(said, dict)]
        if not wanted:
            return False
        try:
            value = decode_json(message)
        except EnvelopeError:
            return False
        return any(all(_holds(value, pointer, held) for pointer, held in said.items()) for said in wanted)


def _as_said(said: Any) -> str:
    return said if isinstance(said, str) else encode_json(said).decode()


def _holds(value: Any, pointer: str, held: Any) -> bool:
    """True where a pointer finds exactly this: true is not 1, and what isn't there is not null."""
    found = resolve(pointer, value, ...)
    if found is ...:
        return False
    say_kinds_differ(found, held, place=f"ignore, {pointer}", mend="write in the flow what the messages hold")
    return bool(found == held) and isinstance(found, bool) == isinstance(held, bool)
