"""What is measured: a file a group of rows."""

from bench.rounds import Row
from bench.rows import drain, publish

ROWS: list[Row] = [*drain.ROWS, *publish.ROWS]
