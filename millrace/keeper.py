"""Keeper: a process that keeps the embedded Valkey of a folder while anybody uses it.

`python -m millrace.keeper FOLDER PORT PREFERRED` (either port may be empty) starts the server, writes a line of JSON on
standard output, `{"url": …}` or `{"error": …}`, and ends the server once nobody holds the lock on `users.lock` any
more. Whoever starts it holds that lock. A server that dies meanwhile is started again. If the keeper is killed itself,
the server ends too (`millrace/watcher.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from millrace.embedded import Embedded
from millrace.home import Home
from millrace_pipeline.errors import ConfigError

LOOK_SECONDS = 0.5
"""So often it is looked whether the server lives."""


def main() -> None:
    """Exit codes: 0 nobody uses it any more; 2 it can't be started."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # others may use it from other terminals
    home = Home(Path(sys.argv[1]))
    port, preferred = (int(word) if word else None for word in sys.argv[2:4])
    try:
        server = home.start(port, preferred)
    except (ConfigError, OSError) as error:
        _say({"error": str(error)})
        sys.exit(2)
    with server, home.users.open() as users:
        _say({"url": server.url})
        ending = threading.Lock()
        threading.Thread(target=_keep_alive, args=(home, server, ending), daemon=True).start()
        fcntl.flock(users, fcntl.LOCK_EX)  # until nobody uses it
        with ending:
            server.stop()  # while nobody can begin to


def _keep_alive(home: Home, server: Embedded, ending: threading.Lock) -> None:
    """Start the server again whenever it has died, unless another keeper has."""
    while True:
        time.sleep(LOOK_SECONDS)
        with ending:
            if not server.running:
                with contextlib.suppress(ConfigError, OSError):  # its port or its files aren't free yet
                    home.start_again(server)


def _say(said: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    main()
