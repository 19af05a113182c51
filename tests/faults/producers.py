"""The producers of several flows in one process, to be killed at once: python -m tests.faults.producers FILE NAME…"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from millrace_pipeline.flows.flow import load
from millrace_pipeline.process import logs
from millrace_producer.runner import Producer


def main() -> None:
    """Runs until killed."""
    logs.configure("json", "info", service="produce")
    flows = load(Path(sys.argv[1]))
    never = threading.Event()
    threads = []
    for name in sys.argv[2:]:
        producer = Producer(flows[name], os.environ["REDIS_URL"], stopping=never, give_up=never)
        threads.append(threading.Thread(target=producer.run, name=name))
        threads[-1].start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
