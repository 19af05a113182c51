"""Reloading: looks whether a flows file, or a module of its folder, was changed, and whether the new one will do.

By their times and sizes, once a second: a library that the kernel tells would be one more to install, for files that a
person saves now and then, and hears nothing of folders that another machine serves.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, load

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0


class Reloading:
    """The files of a flows file: itself, the `.py` files beside it, and the modules of its folder that were imported.

    Call `changed` every moment: it returns the new flows once what was changed has stood still for a look and is well.
    """

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        self._file = file
        self._names = list(names)
        self._seen = self._settled = self._stamps()
        self._looked_at = time.monotonic()

    def changed(self) -> list[Flow] | None:
        """Return the flows as they are now, where they were changed and are well; None where there is nothing to do.

        What is wrong with them is logged, once a change.
        """
        if (now := time.monotonic()) - self._looked_at < LOOK_SECONDS:
            return None
        self._looked_at = now
        before, self._seen = self._seen, self._stamps()
        if self._seen != before or self._seen == self._settled:
            return None  # it is still being written, or there is nothing new
        self._settled = self._seen
        # In a process of its own, since this one has imported the modules as they were.
        command = [sys.executable, "-P", "-m", "millrace", "check", "--flows", str(self._file), *self._names]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        try:
            if done.returncode != 0:
                raise ConfigError((done.stderr or done.stdout).strip())
            flows = load(self._file)
            chosen = [flows[name] for name in self._names or flows]
        except (ConfigError, KeyError) as error:
            log.error("reload_refused", reason=str(error), mend="mend it; until then the flows go on as they were")
            return None
        return chosen

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """When each file was changed last, and its size."""
        stamps = {}
        for path in (self._file, *_modules(self._file.resolve().parent)):
            try:
                found = path.stat()
            except OSError:
                continue
            stamps[path] = (found.st_mtime_ns, found.st_size)
        return stamps


def _modules(folder: Path) -> set[Path]:
    """The modules beside the flows file, and those that were imported from that folder, but for what is installed."""
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = {Path(file) for file in loaded if file and Path(file).is_relative_to(folder)}
    ours = {file for file in files if not {"site-packages", ".venv"} & {*file.relative_to(folder).parts}}
    return {*ours, *folder.glob("*.py")}
