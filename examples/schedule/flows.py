"""What is called at each tick of this example."""

import shutil
from collections.abc import Iterator
from datetime import datetime


def usage(tick: datetime, paths: list[str]) -> Iterator[dict]:
    """How many bytes of each disk are used and free."""
    for path in paths:
        disk = shutil.disk_usage(path)
        yield {"at": tick, "path": path, "used": disk.used, "free": disk.free}
