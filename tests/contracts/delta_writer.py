"""A process that commits batches to a Delta table until it is killed, or one batch.

`python -m tests.contracts.delta_writer PATH` or `… '{"options": {…}, "id": "batch-1"}'`.
"""

from __future__ import annotations

import json
import os
import sys

from millrace_consumer.sinks.delta import DeltaSink
from tests.contracts.sink_records import batch_of, bulk

if __name__ == "__main__":
    if sys.argv[1].startswith("{"):
        job = json.loads(sys.argv[1])
        DeltaSink.model_validate(job["options"]).write(batch_of(job["id"], bulk(50)))
    else:
        sink = DeltaSink(path=sys.argv[1])  # type: ignore[call-arg]
        number = 0
        while True:
            sink.write(batch_of(f"{os.getpid()}-{number}", bulk(50)))
            sys.stdout.write("written\n")
            sys.stdout.flush()
            number += 1
