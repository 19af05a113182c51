"""A tiny process between Millrace and the server it started: when Millrace is gone, the server ends.

It is the server's parent, so the process it signals is never somebody else's under a recycled number, and it runs
nothing else, so that Linux's "signal me when my parent dies" (which goes by thread) can back it up should it be
killed itself. Its standard input is a pipe whose other end only Millrace holds. It reads

    T    end the server in good order (SIGTERM, and SIGKILL when that takes too long)
    K    SIGKILL the server now
    EOF  Millrace is gone: as T, and remove the scratch directory, which nobody else will now

writes the server's process id on standard output as its first and only line, and exits with the server's exit status.
Run as a script, by path, with nothing imported but what it needs: it starts in some 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
COULD_NOT_RUN = 127
LEAD = 0


def run(grace: float, scratch: str, command: list[str]) -> int:
    """Runs the command until it ends or is to end. Returns its exit status, 128 + n where signal n ended it."""
    wakeup, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else _pipe()
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)

    server = start(command)
    os.write(sys.stdout.fileno(), b"%d\n" % server)
    os.close(sys.stdout.fileno())

    abandoned, kill_at, listen = False, None, [LEAD, wakeup]
    while True:
        # Until this says that the server is gone, its number is taken, and a signal can reach nobody else.
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            break
        if kill_at is not None and time.monotonic() >= kill_at:
            os.kill(server, signal.SIGKILL)
            kill_at = None
        ready, _, _ = select.select(listen, [], [], None if kill_at is None else max(0, kill_at - time.monotonic()))
        said = os.read(LEAD, 1) if LEAD in ready else None
        signals = os.read(wakeup, 64) if wakeup in ready else b""
        if said == b"":
            abandoned = True
            listen = [wakeup]
        if said == b"K":
            os.kill(server, signal.SIGKILL)
        elif said is not None or any(number != signal.SIGCHLD for number in signals):
            os.kill(server, signal.SIGTERM)
            kill_at = time.monotonic() + grace
    if abandoned and scratch:
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def start(command: list[str]) -> int:
    """Forks and runs the command, its output going where this process's errors go. Returns its process id."""
    watcher = os.getpid()
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None) if sys.platform == "linux" else None
    child = os.fork()
    if child:
        return child
    try:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != watcher:
                os._exit(COULD_NOT_RUN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.execv(command[0], command)  # noqa: S606 - the words stay as they are, which is the safe way
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(COULD_NOT_RUN)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


if __name__ == "__main__":
    sys.exit(run(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
