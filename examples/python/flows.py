"""A source in ten lines: a generator, and where it goes on after a restart."""

from collections.abc import Iterator

from millrace import Record


def primes(below: int, resume_from: int | None = None) -> Iterator[Record]:
    """The prime numbers, each with itself as its position."""
    for number in range((resume_from or 1) + 1, below):
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            yield Record({"prime": number}, key=str(number), position=number)
