"""Rounds: ours and the peer in turn, A B A B …, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from bench.lab import Lab


class WrongAnswer(Exception):
    """A run ended with other records than were put in, or did not end at all. It fails the whole benchmark."""


Side: TypeAlias = Callable[[], tuple[float, ...]]
"""One run of one side: a value for each of the row's figures."""

Beside: TypeAlias = Callable[[Path], AbstractContextManager[None]]
"""Something else that runs during a run of a side, in its folder."""


@dataclass(frozen=True)
class Goal:
    """What a figure should reach: of the ratio of ours to the peer's, or, in a row without a peer, of ours."""

    bound: float
    unit: str = "×"
    at_least: bool = True

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}".replace(" ×", "×")


@dataclass(frozen=True)
class Figure:
    """One number that a run of a row gives, and its goal."""

    unit: str
    goal: Goal
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    `sides` prepares a row for so many records (pages, consumers) and gives both sides, the second None where there is
    no peer. `size` is that number in a full run and in a quick one; it stands in `what` and `peer` as `{size}`.
    """

    number: str
    what: str
    ours: str
    peer: str
    figures: tuple[Figure, ...]
    size: tuple[int, int]
    sides: Callable[[Lab, int], AbstractContextManager[tuple[Side, Side | None]]]
    once: bool = False
    """Whether it is measured once, since it takes long and has no noise to speak of."""


@dataclass(frozen=True)
class Outcome:
    """What the rounds of a row gave for one figure."""

    row: Row
    figure: Figure
    size: int
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    """As many as `ours`; empty where there is no peer."""

    @property
    def what(self) -> str:
        return self.row.what.format(size=self.size)

    @property
    def peer_name(self) -> str:
        return self.row.peer.format(size=self.size)

    @property
    def values(self) -> list[float]:
        """What the goal is for, a value a round: ours over the peer's, or ours."""
        if not self.peer:
            return self.ours
        return [ours / peer if peer else float("inf") for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        return self.figure.goal.met_by(self.median)


def play(row: Row, lab: Lab) -> list[Outcome]:
    """Plays the rounds of a row. Raises WrongAnswer."""
    size = row.size[lab.quick]
    outcomes = [Outcome(row, figure, size) for figure in row.figures]
    rounds = 1 if row.once else lab.rounds
    with row.sides(lab, size) as (ours, peer):
        for number in range(1, rounds + 1):
            told = f"row {row.number}, {outcomes[0].what}, round {number} of {rounds}"
            lab.say(f"{told}: {row.ours}")
            for outcome, value in zip(outcomes, ours(), strict=True):
                outcome.ours.append(value)
            if peer is not None:
                lab.say(f"{told}: {outcomes[0].peer_name}")
                for outcome, value in zip(outcomes, peer(), strict=True):
                    outcome.peer.append(value)
    return outcomes
