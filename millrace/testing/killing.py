"""Killing: a process whose children are killed while they write a batch.

It takes one job as JSON a line: sink, options, model, batch id, records, import path, where the child's standard output
goes, and the point at which it is killed: a kill point of Millrace's own, or `line:N`, the N-th line of the sink's
module that `write` runs. For each it forks a child that writes the batch, and answers with how that ended. Forking
spares every kill the second that it takes to load the libraries.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib import import_module, reload
from pathlib import Path
from types import FrameType
from typing import Any

import millrace_pipeline.killpoints
from millrace.testing.batches import batch_of, named, sink_of


@cache
def _forker() -> subprocess.Popen[str]:
    """The process that forks those that are killed; it ends when this one does, with its standard input."""
    command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(job: dict[str, Any]) -> int:
    """How a process that did the job ended: its exit status, or minus the signal that killed it."""
    process = _forker()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(job | {"path": sys.path, "folder": str(Path.cwd())}) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def _write_in_child(job: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.chdir(job["folder"])
        sys.path[:] = job["path"]
        if not job["point"].startswith("line:"):
            os.environ["MILLRACE_KILLPOINT"] = job["point"]
            reload(millrace_pipeline.killpoints)  # which reads the variable when it is loaded
        os.dup2(os.open(job["stdout"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        batch = batch_of(job["id"], job["records"], named(job["model"]) if job["model"] else None)
        sink = sink_of(job["sink"], job["options"])
        if job["point"].startswith("line:"):
            _die_at_line(int(job["point"].removeprefix("line:")), type(sink).__module__)
        sink.write(batch)
        sys.settrace(None)
        os._exit(0)
    except BaseException:
        sys.settrace(None)
        traceback.print_exc()
        os._exit(1)


def _die_at_line(number: int, module: str) -> None:
    """From now on this process is killed before the so-manieth line of this module that it runs.

    A return counts as a line: what is written by then is committed, and nobody has heard of it.
    """
    file = import_module(module).__file__
    run = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal run
        if frame.f_code.co_filename != file:
            return None
        if event in ("line", "return"):
            run += 1
            if run == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def serve() -> None:
    """Does the jobs on standard input, until it ends."""
    for line in sys.stdin:
        told = json.loads(line)
        if not told["sink"].startswith("millrace_"):
            sys.path[:] = told["path"]
        else:
            import_module(told["sink"].split(":")[0])  # once, here, and not in every child
        sys.stdout.write(f"{_write_in_child(told)}\n")
        sys.stdout.flush()
