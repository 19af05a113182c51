"""The text of an event stream, taken apart as the WHATWG says.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream: always UTF-8, at most one BOM,
lines end in CR, LF or CRLF and nothing else, an event is complete at its blank line, and half of one is no event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

from sseclient import Event

_BOM = b"\xef\xbb\xbf"
_COMMENT_LINES = re.compile(rb"^:.*\n", re.MULTILINE)
_ID_LINES = re.compile(rb"^id(?::[ ]?(.*))?\n", re.MULTILINE)


class StreamEvent(Event):  # type: ignore[misc]  # sseclient has no types
    """An `sseclient.Event` that keeps the bytes of its data as they came, and decodes them only when asked.

    `id` is the last event id as of this event: where to resume after it, also when the event itself named none.
    """

    def __init__(self, raw: bytes, event: str, id: str, retry: int | None = None) -> None:
        # Not super().__init__: it wants the data decoded, which most events here never need.
        self.raw = raw
        self.event = event
        self.id = id
        self.retry = retry

    @cached_property
    def data(self) -> str:
        """The data as text; what is not UTF-8 becomes U+FFFD, as the standard says."""
        return self.raw.decode("utf-8", "replace")


class EventParser:
    """Takes the bytes of one connection in any slices and gives the events that are complete.

    `last_id` and `retry` (milliseconds, None until the server names one) outlive a connection: hand them to the next
    parser. An event of more than `max_event_bytes` (its comments not counted) is dropped without being held in memory,
    `on_too_large` is called once for it with the number of bytes seen, and parsing goes on after it; its id counts if
    it came before the limit, so that a new connection goes on after it too. The time taken is linear in the bytes,
    however they are sliced and however long a line gets.
    """

    def __init__(
        self,
        *,
        last_id: str = "",
        retry: int | None = None,
        max_retry: int = 60_000,
        max_event_bytes: int = 4 * 1024 * 1024,
        on_too_large: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.last_id = last_id
        self.retry = retry
        self._max_retry = max_retry
        self._max_event_bytes = max_event_bytes
        self._on_too_large = on_too_large
        self._pending = bytearray()
        self._compact_at = max_event_bytes
        self._skipping = False
        self._skipped = 0
        self._skipped_id: bytes | None = None
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[StreamEvent]:
        """The events that this chunk completes. `last_id` moves as they are taken, one by one: take them all."""
        chunk = self._only_line_feeds(chunk)
        if self._skipping:
            chunk = self._skip(chunk)
        pending = self._pending
        if b"\n\n" not in chunk and not (chunk.startswith(b"\n") and pending.endswith(b"\n")):
            pending += chunk
            if len(pending) > self._compact_at:
                self._compact()
            return
        blocks = (bytes(pending) + chunk).split(b"\n\n") if pending else chunk.split(b"\n\n")
        self._pending = bytearray(blocks.pop())
        self._compact_at = self._max_event_bytes
        for block in blocks:
            if len(block) > self._max_event_bytes and self._is_too_large(kept := _without_comments(block)):
                self._at_start = False
                self._commit_id(self._early_id(kept))
                self._on_too_large(len(block))
            elif (event := self._event(block)) is not None:
                yield event
        if len(self._pending) > self._compact_at:
            self._compact()

    def finish(self) -> None:
        """The connection is over. Half an event is no event, but a `retry` line counts from its line end on."""
        for line in bytes(self._pending).split(b"\n")[:-1]:
            name, _, value = line.partition(b":")
            if name == b"retry":
                self._set_retry(value.removeprefix(b" "))
        self._pending = bytearray()

    def _only_line_feeds(self, chunk: bytes) -> bytes:
        """CRLF and lone CR as LF. A CR that ends a chunk ends its line at once, and takes along an LF that follows."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _event(self, block: bytes) -> StreamEvent | None:
        """The lines up to a blank line: the event that they dispatch, or None."""
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        data: list[bytes] = []
        event_type = b""
        event_id: bytes | None = None
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            if value.startswith(b" "):
                value = value[1:]
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event_type = value
            elif name == b"id":
                if b"\0" not in value:
                    event_id = value
            elif name == b"retry":
                self._set_retry(value)
        self._commit_id(event_id)
        if not data:
            return None
        return StreamEvent(
            b"\n".join(data), event_type.decode("utf-8", "replace") or "message", self.last_id, self.retry
        )

    def _commit_id(self, event_id: bytes | None) -> None:
        if event_id is not None:
            self.last_id = event_id.decode("utf-8", "replace")

    def _set_retry(self, value: bytes) -> None:
        # ASCII digits only; a number of any length, so that int() never meets one that it refuses.
        if value.isdigit():
            digits = value.lstrip(b"0") or b"0"
            self.retry = self._max_retry if len(digits) > 9 else min(int(digits), self._max_retry)

    def _is_too_large(self, kept: bytes) -> bool:
        """Whether or not its last line break, or the colon of a further comment, is there yet."""
        return len(kept) - (2 if kept.endswith(b"\n:") else kept.endswith(b"\n")) > self._max_event_bytes

    def _early_id(self, kept: bytes) -> bytes | None:
        """The id of an event that is too large, if it stands within what the limit allows."""
        ids = [value for value in _ID_LINES.findall(kept, 0, self._max_event_bytes) if b"\0" not in value]
        return ids[-1] if ids else None

    def _compact(self) -> None:
        """Called when what is pending has grown past the limit: comments don't count, the rest is too large."""
        kept = _without_comments(bytes(self._pending))
        if self._is_too_large(kept):
            self._skipping = True
            self._skipped = len(self._pending)
            self._skipped_id = self._early_id(kept)
            self._at_start = False
            kept = kept[-1:] if kept.endswith(b"\n") else b""
        self._pending = bytearray(kept)
        # Only after as much again: a stream of comments beside a large event must not be sifted at every chunk.
        self._compact_at = len(kept) + self._max_event_bytes

    def _skip(self, chunk: bytes) -> bytes:
        """What follows the end of the event that is too large; nothing while it goes on."""
        if self._pending.endswith(b"\n") and chunk.startswith(b"\n"):
            end = 1
        else:
            end = chunk.find(b"\n\n") + 2
            if end == 1:
                self._skipped += len(chunk)
                self._pending = bytearray(chunk[-1:] or self._pending)
                return b""
        self._commit_id(self._skipped_id)
        self._on_too_large(self._skipped + end)
        self._pending = bytearray()
        self._compact_at = self._max_event_bytes
        self._skipping = False
        return chunk[end:]


def _without_comments(block: bytes) -> bytes:
    """The same without its comment lines; of one that has not ended only the colon is left."""
    block = _COMMENT_LINES.sub(b"", block)
    unfinished = block.rfind(b"\n") + 1
    return block[: unfinished + 1] if block.startswith(b":", unfinished) else block
