"""Pagination: how an API says where its next page is.

A page is named by a token: None for the first, else what JSON can say, since it stands in positions. It is a URL where
the server gives one, and otherwise the value of a query parameter, or of a place in the body.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field


class Answered(Protocol):
    """An answer, as far as it matters here."""

    count: int

    def look(self, pointer: str) -> Any:
        """What a JSON pointer finds in the body; None where there is nothing."""

    def look_at_last(self, pointer: str) -> Any:
        """What a JSON pointer finds in the last record; None where there is nothing."""

    @property
    def next_link(self) -> str | None:
        """The target of the Link header with rel=next. Raises NoToken for a header that can't be read."""


class _Pagination(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    counted: ClassVar[bool] = False
    """True where we count pages or records, so that there may be nothing where we ask."""

    repeated: Literal["end", "refuse", "allow"] | None = Field(
        default=None,
        description="What a page means that has the very records of the one before, or of the first, and a cursor or "
        "URL that was there before: the end, an error, or nothing. Default: end where we count pages or records, "
        "else refuse.",
    )

    @property
    def pointers(self) -> list[str]:
        """Where a body says whether there is another page, or which."""
        return [found for name in ("more", "field") if (found := getattr(self, name, None))]

    def params(self, token: Any) -> dict[str, Any]:
        """The parameters that ask for a page, by name, or pointer into the body; none where the token is a URL."""
        raise NotImplementedError

    def url(self, token: Any) -> str | None:  # noqa: ARG002
        """The URL of a page, where the token is one."""
        return None

    def after(self, token: Any, answer: Answered) -> Any:
        """The token of the page that follows, or None where this was the last. Raises NoToken for what is none."""
        raise NotImplementedError


class NoToken(ValueError):
    """What is to name the next page can't. Its text says why."""


class _ByUrl(_Pagination):
    def params(self, token: Any) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def url(self, token: Any) -> str | None:
        return token if isinstance(token, str) else None


class _Linked(_ByUrl):
    https: bool = Field(
        default=False,
        description="Ask by https where a link says http: for an API behind a proxy that speaks https for it.",
    )


class LinkHeader(_Linked):
    """The Link header with rel=next, as GitHub has it."""

    type: Literal["link"]

    def after(self, token: Any, answer: Answered) -> str | None:  # noqa: ARG002
        return answer.next_link


class NextUrl(_Linked):
    """A URL in the body."""

    type: Literal["next"]
    field: str = Field(default="/next", description="JSON pointer to the next page's URL; null or nothing on the last.")

    def after(self, token: Any, answer: Answered) -> str | None:  # noqa: ARG002
        found = answer.look(self.field)
        if _is_nothing(found):
            return None
        if not isinstance(found, str):
            raise NoToken(f"says at {self.field} that its next page is at what is no URL, but a {type(found).__name__}")
        return found


class Cursor(_Pagination):
    """A value in the body, or of the last record, that goes into a parameter."""

    type: Literal["cursor"]
    field: str | None = Field(default=None, description="JSON pointer to the value in the body; nothing on the last.")
    record: str | None = Field(default=None, description="JSON pointer to the value in the page's last record.")
    parameter: str = Field(
        default="cursor",
        min_length=1,
        description="The query parameter that it goes into; or a JSON pointer to its place in the request's body.",
    )
    more: str | None = Field(default=None, description="JSON pointer to what says whether there is another page.")

    def model_post_init(self, context: Any) -> None:  # noqa: ARG002
        if (self.field is None) == (self.record is None):
            raise ValueError("where is the cursor? expected either field or record")

    def params(self, token: Any) -> dict[str, Any]:
        return {} if token is None else {self.parameter: token}

    def after(self, token: Any, answer: Answered) -> Any:  # noqa: ARG002
        if self.more is not None and not _is_more(answer.look(self.more)):
            return None
        found = answer.look(self.field) if self.field is not None else answer.look_at_last(self.record or "")
        if _is_nothing(found):
            if self.record is not None and answer.count:
                raise NoToken(f"has nothing at {self.record} in the last record of a page, which names the next one")
            return None
        if isinstance(found, str | int | float) and not isinstance(found, bool):
            return found
        if isinstance(found, list | dict) and self.parameter.startswith("/"):
            return found
        place = self.field if self.field is not None else self.record
        raise NoToken(f"has a {type(found).__name__} at {place}, which {self.parameter} can't take")


class _Counted(_Pagination):
    counted: ClassVar[bool] = True

    more: str | None = Field(
        default=None,
        description="JSON pointer to what says whether there is another page. Without it, the last is an empty one.",
    )

    def _ends(self, answer: Answered) -> bool:
        return answer.count == 0 if self.more is None else not _is_more(answer.look(self.more))


class PageNumber(_Counted):
    """The number of the page in a parameter."""

    type: Literal["page"]
    parameter: str = Field(
        default="page",
        min_length=1,
        description="The query parameter of the page's number; a JSON pointer to its place in the request's body; or "
        "what stands in braces in `url`, as in /list/{page}.",
    )
    first: int = Field(default=1, ge=0, description="The number of the first page.")

    def params(self, token: Any) -> dict[str, Any]:
        return {self.parameter: self.first if token is None else token}

    def after(self, token: Any, answer: Answered) -> int | None:
        return None if self._ends(answer) else (self.first if token is None else int(token)) + 1


class Offset(_Counted):
    """How many records to pass over, in a parameter."""

    type: Literal["offset"]
    parameter: str = Field(
        default="offset",
        min_length=1,
        description="The query parameter of the offset; a JSON pointer to its place in the request's body; or what "
        "stands in braces in `url`.",
    )
    first: int = Field(default=0, ge=0, description="The offset of the first record: 1 where the API counts from one.")

    def params(self, token: Any) -> dict[str, Any]:
        return {self.parameter: self.first if token is None else token}

    def after(self, token: Any, answer: Answered) -> int | None:
        if self._ends(answer):
            return None
        if not answer.count:
            raise NoToken(f"has a page of no records, and says at {self.more} that there is another: at which offset?")
        return (self.first if token is None else int(token)) + answer.count


class OnePage(_ByUrl):
    """There is only one."""

    def after(self, token: Any, answer: Answered) -> None:  # noqa: ARG002
        return None


def _is_more(found: Any) -> bool:
    """Return True for what says that there is another page. Text may say it in words."""
    return bool(found) and not (isinstance(found, str) and found.strip().lower() in ("false", "0", "no", "n"))


def _is_nothing(found: Any) -> bool:
    """Whether what stands where the next page is named says that there is none. A zero names one."""
    return found is None or found is False or found == ""


Pagination = Annotated[LinkHeader | NextUrl | Cursor | PageNumber | Offset, Field(discriminator="type")]
