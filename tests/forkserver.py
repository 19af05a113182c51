"""Fork server: starts `millrace` commands as real processes, without the second that each spends on imports.

A process that has imported what nearly every command needs forks for each one. What it forks is a `millrace` command
like any other: a process of its own, with its arguments, folder, environment and files, and a child of the one that
asked, which waits for it, stops it and kills it. `python -m millrace` itself is what these commands start in turn, and
what the tests of the installed wheel run.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, reload
from pathlib import Path
from typing import Any

PRELOADED = (
    "millrace.cli.services",
    "millrace.cli.check",
    "millrace.cli.run",
    "millrace.cli.status",
    "millrace.cli.verify",
    "millrace_consumer.runner",
    "millrace_consumer.sinks.jsonl",
    "millrace_consumer.transforms.chain",
    "millrace_producer.runner",
    "millrace_producer.sources.base",
    "millrace_pipeline.process.logs",
    "millrace_pipeline.redis.preflight",
)
"""Modules that start no thread and keep no file open: a fork would have neither."""

PR_SET_CHILD_SUBREAPER = 36
"""Of linux/prctl.h: a process whose parent ends becomes a child of ours."""

HIGHEST_FILE = 1024
LONGEST_JOB = 1 << 20

_asking = threading.Lock()


class Command(subprocess.Popen[bytes]):
    """`millrace ARGUMENTS` as a process: forked where that comes to the same, else started anew."""

    def __init__(self, arguments: Iterable[str], folder: Path, environ: Mapping[str, str], **files: Any) -> None:
        super().__init__([sys.executable, "-P", "-m", "millrace", *arguments], cwd=folder, env=environ, **files)

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        # By their places, as the standard library hands them on from Python 3.10 to 3.14.
        folder, environ, ends = rest[4], rest[5], rest[9:15]
        if not can_be_forked(environ):
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        stdin, _, _, stdout, _, stderr = ends
        try:
            job = {"arguments": args[4:], "folder": str(folder), "environ": dict(environ)}
            self.pid = _fork(job, [stdin, stdout, stderr])
            self._child_created = True
        finally:
            self._close_pipe_fds(*ends)  # type: ignore[attr-defined]


def can_be_forked(environ: Mapping[str, str]) -> bool:
    """Return True where this environment makes an interpreter that is the same as ours but for its PYTHONPATH."""
    if sys.platform != "linux":
        return False
    folders = environ.get("PYTHONPATH", "").split(os.pathsep)
    if any(Path(folder, "sitecustomize.py").exists() for folder in folders if folder):
        return False
    names = {name for name in environ.keys() | os.environ.keys() if name.startswith("PYTHON")} - {"PYTHONPATH"}
    return all(environ.get(name) == os.environ.get(name) for name in names)


def _fork(job: Mapping[str, Any], files: list[int]) -> int:
    """Return the number of a process that does the job with these files for its standard ones; a child of ours."""
    with _asking, _adopting():
        server = _server()
        socket.send_fds(server, [json.dumps(job).encode()], files)
        answer = server.recv(20)
    if not answer:
        raise RuntimeError("the fork server has ended")
    return int(answer)


@contextmanager
def _adopting() -> Iterator[None]:
    """Be the new parent of processes whose own one ends within the block."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _server() -> socket.socket:
    """The way to the fork server of this process, which ends when this one does, with its end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST_JOB)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return ours


def _serve(channel: socket.socket) -> list[str]:
    """Fork for each job that comes. Returns its arguments in the process that is to do it."""
    for name in PRELOADED:
        import_module(name)
    path = list(sys.path)
    while True:
        text, files, _, _ = socket.recv_fds(channel, LONGEST_JOB, 3)
        if not text:
            sys.exit()
        mine, child = os.pipe()
        between = os.fork()
        if between == 0:
            grandchild = os.fork()
            if grandchild == 0:
                return _become(json.loads(text), files, path)
            os.write(child, b"%d" % grandchild)
            os._exit(0)  # upon which the grandchild is a child of the one that asked
        os.waitpid(between, 0)
        channel.send(os.read(mine, 20))
        for file in (mine, child, *files):
            os.close(file)


def _become(job: Mapping[str, Any], files: list[int], path: list[str]) -> list[str]:
    """Make this process what a new interpreter would be. Returns its arguments."""
    for standard, file in enumerate(files):
        os.dup2(file, standard)
    os.closerange(3, HIGHEST_FILE)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environ"])
    first = [folder for folder in job["environ"].get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:] = [*first, *(folder for folder in path if folder not in first)]
    signal.set_wakeup_fd(-1)
    reload(import_module("millrace_pipeline.killpoints"))  # which reads its variable when it is loaded
    arguments: list[str] = job["arguments"]
    return arguments


if __name__ == "__main__":
    from millrace.cli.lean import be_lean

    be_lean()
    sys.argv = ["millrace", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    runpy.run_module("millrace", run_name="__main__", alter_sys=True)
