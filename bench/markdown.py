"""The results as a Markdown table, for the README.

python -m bench.markdown results.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.table import middle, short

HEAD = "| # | what | beside | ours | peer | median | goal | |\n|--:|---|---|--:|--:|--:|--:|:-:|"


def table_of(report: Mapping[str, Any]) -> str:
    """A line a figure: both sides' middle round, and the median of the ratios with the smallest and the largest."""
    return "\n".join([HEAD, *map(_line, report["rows"])])


def _line(row: Mapping[str, Any]) -> str:
    rounds, unit = row["rounds"], row["unit"]
    values = rounds["ratio"] or rounds["ours"]
    sign = "×" if rounds["ratio"] else f" {row['goal']['text'].split(' ', 2)[-1]}"
    spread = f" ({short(min(values))} – {short(max(values))})" if len(values) > 1 else ""
    cells = [
        row["row"],
        f"{row['what']}, {row['figure']}" if row["figure"] else row["what"],
        row["peer"],
        f"{short(middle(rounds['ours']))} {unit}",
        f"{short(middle(rounds['peer']))} {unit}" if rounds["peer"] else "",
        f"**{short(row['median'])}{sign}**{spread}",
        row["goal"]["text"],
        "✓" if row["met"] else "✗",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table_of(json.loads(Path(sys.argv[1]).read_text())))
