"""Keyboard: single keys from a terminal, while it shows something else."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import sys
from collections.abc import Iterator

ESCAPES = {
    "[A": "up",
    "[B": "down",
    "[5~": "page up",
    "[6~": "page down",
    "[H": "home",
    "[F": "end",
    "OA": "up",
    "OB": "down",
}
_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x03": "q"}


class Keyboard:
    """Keys as they are pressed; none where standard input is no terminal."""

    def __init__(self, file: int | None) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def key(self, seconds: float) -> str | None:
        """The next key, by its letter or its name; None where none is pressed for so long."""
        if self._file is None:
            select.select([], [], [], seconds)
            return None
        if not self._waits(seconds):
            return None
        letter = self._letter()
        if letter != "\x1b":
            return _NAMES.get(letter, letter)
        rest = ""
        while self._waits(0.05) and len(rest) < 5:
            rest += self._letter()
            if rest in ESCAPES or (len(rest) > 1 and rest[-1].isalpha()):
                break
        return ESCAPES.get(rest, "escape")

    def _waits(self, seconds: float) -> bool:
        assert self._file is not None
        return bool(select.select([self._file], [], [], seconds)[0])

    def _letter(self) -> str:
        assert self._file is not None
        while True:
            byte = os.read(self._file, 1)
            if not byte:
                return "q"  # the terminal is gone
            if letter := self._decoder.decode(byte):
                return letter


@contextlib.contextmanager
def keys() -> Iterator[Keyboard]:
    """Reads keys without echo and without waiting for Enter, and leaves the terminal as it was."""
    if not sys.stdin.isatty():
        yield Keyboard(None)
        return
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    try:
        tty.setcbreak(file)
        yield Keyboard(file)
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)
