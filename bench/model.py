"""A model of what a record costs, fitted to measured points.

    microseconds a record = a / records in a batch + b + c × bytes of a record

`a` is what a batch costs however many records it has: round trips, scripts, a file that is synced. `b` is what a record
costs however small it is, `c` what a byte costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import NamedTuple


class Point(NamedTuple):
    """One measurement."""

    batch: int
    size: int
    micros: float


@dataclass(frozen=True)
class Model:
    """The coefficients: microseconds a batch, a record, a byte; and how far the points lie from it."""

    a: float
    b: float
    c: float
    error: float
    """The mean distance of a point from the model, as a share of the point."""

    def micros(self, batch: float, size: float) -> float:
        """What a record of so many bytes costs in a batch of so many."""
        return self.a / batch + self.b + self.c * size

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def fit(points: Sequence[Point]) -> Model:
    """The model nearest to the points, distances taken relative to each, with no coefficient below zero."""
    rows = [[1 / point.batch, 1.0, float(point.size)] for point in points]
    weights = [1 / point.micros**2 for point in points]
    best: Model | None = None
    for used in (chosen for number in (3, 2, 1) for chosen in combinations(range(3), number)):
        found = _least_squares([[row[i] for i in used] for row in rows], weights, [point.micros for point in points])
        if found is None or min(found) < 0:
            continue
        coefficients = [0.0, 0.0, 0.0]
        for i, value in zip(used, found, strict=True):
            coefficients[i] = value
        model = Model(*coefficients, error=0.0)
        error = sum(abs(model.micros(point.batch, point.size) / point.micros - 1) for point in points) / len(points)
        if best is None or error < best.error:
            best = Model(*coefficients, error=error)
    assert best is not None
    return best


def _least_squares(rows: list[list[float]], weights: list[float], values: list[float]) -> list[float] | None:
    """The solution of the weighted normal equations by elimination; None where there is none."""
    n = len(rows[0])
    matrix = [
        [
            *(sum(w * row[i] * row[j] for w, row in zip(weights, rows, strict=True)) for j in range(n)),
            sum(w * row[i] * value for w, row, value in zip(weights, rows, values, strict=True)),
        ]
        for i in range(n)
    ]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(matrix[k][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if matrix[i][i] == 0:
            return None
        for k in range(n):
            if k != i:
                share = matrix[k][i] / matrix[i][i]
                matrix[k] = [x - share * y for x, y in zip(matrix[k], matrix[i], strict=True)]
    return [matrix[i][n] / matrix[i][i] for i in range(n)]
