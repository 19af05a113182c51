"""The watchdog: it ends a process in which no Python code can run any more, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from millrace_pipeline.process.watchdog import EXIT_CODE

ROOT = Path(__file__).resolve().parents[2]

BEGIN = """
import hashlib, re, signal, threading, time
from millrace_pipeline.process.watchdog import Watchdog

def still(seconds=None):
    '''Holds the interpreter's lock for so many seconds on the processor, or for ever.'''
    letters = 40 if seconds is None else 10
    until = time.process_time() + (seconds or 0)
    while letters == 40 or time.process_time() < until:
        began = time.process_time()
        re.match("(a+)+$", "a" * letters + "b")
        if time.process_time() - began < seconds / 4:
            letters += 1

def busy(seconds):
    '''Python code that keeps a core at work, and lets others run.'''
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass

dog = Watchdog()
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_process_that_stands_still_with_a_batch_ends_and_says_where() -> None:
    ended = run("dog.hold('batch', 1.0)\nstill()")
    assert ended.returncode == EXIT_CODE  # and no signal, which would not end process 1 of a container
    assert "in still" in ended.stderr


def test_what_stands_still_for_less_than_a_lease_goes_on() -> None:
    ended = run("dog.hold('batch', 20.0)\nstill(1.5)\nprint('done')")
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_python_code_may_be_at_work_for_many_leases() -> None:
    ended = run(
        "dog.hold('batch', 1.0)\n"
        "for _ in range(3): threading.Thread(target=busy, args=[1]).start()\n"
        "busy(1)\nprint('done')"
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_all_cores_may_be_at_work_in_c_beside_python_code() -> None:
    ended = run(
        "dog.hold('batch', 1.0)\n"
        "text = bytes(50_000_000)\n"
        "work = lambda: [hashlib.sha256(text) for _ in range(12)]\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print('done')"
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_nothing_is_watched_while_nothing_is_held() -> None:
    ended = run("dog.hold('a', 1.0)\ndog.hold('b', 1.0)\ndog.drop('a')\ndog.drop('b')\nstill(2)\nprint('done')")
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


def test_the_shortest_lease_of_all_that_is_held_counts() -> None:
    ended = run(
        "dog.hold('long', 600.0)\nbusy(0.1)\ndog.hold('short', 1.0)\nbusy(2)\nprint('well', flush=True)\nstill()"
    )
    assert (ended.returncode, ended.stdout) == (EXIT_CODE, "well\n"), ended.stderr


def test_who_is_told_to_hurry_may_stand_still_no_longer_than_that() -> None:
    ended = run("dog.hold('batch', 600.0)\ndog.hurry(1.0)\nbusy(2)\nprint('well', flush=True)\nstill()")
    assert (ended.returncode, ended.stdout) == (EXIT_CODE, "well\n"), ended.stderr
