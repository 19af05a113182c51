"""The results as JSON: every round of every figure, and what machine it was; no name of it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.lab import Lab
from bench.rounds import Outcome
from bench.server import version_of


def machine(lab: Lab) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "server": version_of(lab.redis),
        "events": "recorded" if lab.events.recorded else "made up",
        "event_bytes": lab.events.mean_bytes,
    }


def report(lab: Lab, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What goes into the file."""
    rows = [
        {
            "row": outcome.row.number,
            "what": outcome.what,
            "figure": outcome.figure.name,
            "unit": outcome.figure.unit,
            "ours": outcome.row.ours,
            "peer": outcome.peer_name,
            "goal": {
                "text": str(outcome.figure.goal),
                "bound": outcome.figure.goal.bound,
                "at_least": outcome.figure.goal.at_least,
            },
            "median": outcome.median,
            "met": outcome.met,
            "rounds": {"ours": outcome.ours, "peer": outcome.peer, "ratio": outcome.values if outcome.peer else []},
        }
        for outcome in outcomes
    ]
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": lab.quick,
        "machine": machine(lab),
        "rows": rows,
    }


def write(path: Path, results: dict[str, Any]) -> None:
    """Writes the file."""
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
