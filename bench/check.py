"""Whether what a run wrote is what was put in: how many records, which, and with which bytes.

The order does not matter, since consumers share a list; so a set of lines is summed up by adding their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import msgspec

from bench.data import id_of
from bench.rounds import WrongAnswer

Sum: TypeAlias = tuple[int, int, int]
"""How many lines, how many bytes, and the sum of their hashes."""


def exactly(line: bytes) -> bytes:
    """For a side that must hand on the very bytes."""
    return line


def as_json(line: bytes) -> bytes:
    """For a side that may spell the same JSON in another way."""
    return msgspec.json.encode(msgspec.json.decode(line), order="sorted")


def only_its_id(line: bytes) -> bytes:
    """For a side whose model spells times or numbers in its own way: which record it is, and that it is JSON."""
    return id_of(line)


def total(lines: Iterable[bytes], form: Callable[[bytes], bytes] = exactly) -> Sum:
    count = size = hashes = 0
    for line in lines:
        text = form(line)
        count += 1
        size += len(text)
        hashes += int.from_bytes(blake2b(text, digest_size=12).digest())
    return count, size, hashes & (1 << 128) - 1


def agree(what: str, got: Sum, expected: Sum) -> None:
    """Raises WrongAnswer, saying what differs."""
    if got == expected:
        return
    if got[0] != expected[0]:
        difference = f"{got[0]:,} records instead of {expected[0]:,}"
    elif got[1] != expected[1]:
        difference = f"{got[1]:,} bytes instead of {expected[1]:,}"
    else:
        difference = "as many records and bytes as expected, but other ones"
    raise WrongAnswer(f"{what}: {difference}")


def lines_in(folder: Path, suffix: str = ".jsonl") -> Iterator[bytes]:
    """The lines of all files in a folder that have their names."""
    for path in sorted(folder.rglob(f"*{suffix}")):
        if not path.name.startswith("."):
            with path.open("rb") as file:
                for line in file:
                    yield line.removesuffix(b"\n")
