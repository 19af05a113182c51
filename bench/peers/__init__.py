"""Those who are measured against. Each is a process: `python -m bench.peers.NAME URL KEY FOLDER …`."""

import os
import sys

if hidden := os.environ.get("BENCH_WITHOUT"):
    sys.modules[hidden] = None  # type: ignore[assignment]  # as if it were not installed
