"""Problem: one thing that is wrong with a file, and where; and the error that says several of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from millrace_pipeline.errors import ConfigError

Steps: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys and indexes."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, and where. Lines and columns count from 1; both are 0 where there is no file."""

    line: int
    column: int
    steps: Steps = field(compare=False)
    message: str = field(compare=False)
    unset: bool = field(default=False, compare=False)
    """True for a variable that isn't set: no mistake until somebody needs the value."""


class _Placed(ConfigError):
    """A ConfigError that remembers its problems, so that several errors can be said as one."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        first: dict[Steps, Problem] = {}
        for problem in problems:
            first.setdefault(problem.steps, problem)
        super().__init__("\n".join(_line(file, problem) for problem in sorted(first.values())))
        self.file = file
        self.problems = list(first.values())


def config_error(file: str, problems: Iterable[Problem]) -> ConfigError:
    """One error that says them all, one a line, in the order of the file; the first of each value only."""
    return _Placed(file, problems)


def all_of(errors: Iterable[ConfigError]) -> ConfigError:
    """One error that says what these say; of several about the same value, what the first of them says."""
    errors = list(errors)
    placed = [error for error in errors if isinstance(error, _Placed)]
    merged = _Placed(placed[0].file if placed else "", (problem for error in placed for problem in error.problems))
    others = [str(error) for error in errors if not isinstance(error, _Placed)]
    return ConfigError("\n".join([*others, *filter(None, [str(merged)])])) if others else merged


def _line(file: str, problem: Problem) -> str:
    place = f"{file}:{problem.line}:{problem.column}: " if problem.line else f"{file}: " if file else ""
    return f"{place}{dotted(problem.steps)}: {problem.message}" if problem.steps else place + problem.message


def dotted(steps: Steps) -> str:
    """`flows.quotes.transforms[1]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
