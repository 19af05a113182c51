"""A README's commands, typed line by line by someone who has an empty folder, a shell or two, and only that page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import eventually
from tests.services import PATIENCE

BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REDIS_CLI = """\
#!{python}
# As far as these pages use it. It speaks to the Valkey of this folder, whose port is another if 6379 is taken.
import json, os, sys
import redis

arguments = sys.argv[1:]
if arguments[0] == "-n":
    client = redis.Redis.from_url(os.environ["THEIRS"])
    arguments = arguments[2:]
else:
    client = redis.Redis(port=json.load(open(".millrace/address.json"))["port"])
answer = client.execute_command(*arguments)
print(answer.decode() if isinstance(answer, bytes) else answer)
sys.exit(answer is None)
"""


class Walk:
    """Types each command as it stands, in a copy of the example. `environ` leads to servers of this machine.

    `millrace run` goes on in a shell of its own until something was read, and gets its Ctrl-C where a next line is in
    its block, or else at the end of the page. A command of another shell is typed again until it shows something.
    """

    def __init__(self, folder: Path, bin: Path, environ: Mapping[str, str], rename: Mapping[str, str]) -> None:
        cli = bin / "redis-cli"
        cli.write_text(REDIS_CLI.format(python=sys.executable))
        cli.chmod(0o755)
        ours = ("MILLRACE_", "REDIS_", "PYTHON", "SCRAPY_", "VIRTUAL_ENV")
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._environ |= {"PATH": f"{bin}:{os.environ['PATH']}", "COLUMNS": "120", **environ}
        self._given = set(environ)
        self._folder = folder
        self._rename = rename
        self._running: subprocess.Popen[bytes] | None = None
        self._beside: list[subprocess.Popen[bytes]] = []
        self.typed: list[str] = []

    def all(self) -> None:
        """Types all of the page. Fails, showing what was printed, at the first command that does."""
        page = (self._folder / "README.md").read_text()
        for there, here in self._rename.items():
            page = page.replace(there, here)
        try:
            for block in BLOCK.findall(page):
                lines = block.replace("\\\n", "").splitlines()
                for number, line in enumerate(lines):
                    self._type(line, is_last=number == len(lines) - 1)
            self._ctrl_c()
        finally:
            for process in (*self._beside, *([self._running] if self._running else [])):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _type(self, line: str, *, is_last: bool) -> None:
        command = line.partition(" #")[0].strip()
        self.typed.append(command)
        if command.startswith("pip install"):
            return  # the extras are in this environment
        if command.startswith("export "):
            for name, _, value in (word.partition("=") for word in command.split()[1:]):
                if name not in self._given:
                    self._environ[name] = value
            return
        if command.endswith("&"):
            self._beside.append(self._start(command.removesuffix("&")))
            return
        if "millrace run" in command and "--until-empty" not in command and "--inline" not in command:
            self._ctrl_c()
            assert "Ctrl-C" in line, f"{command}: goes on and on, and the page doesn't say how it ends"
            flow = command.partition("millrace run")[2].strip()
            before = self._read(flow)
            self._running = self._start(command)
            self._until(self._has_started if is_last else lambda: self._read(flow) > before)
            if not is_last:
                self._ctrl_c()
            return
        if self._running is not None:
            self._until(lambda: self._shows(command))
        else:
            done = self._run(command)
            assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.stdout or not command.startswith(("cat ", "python -c")), f"{command}: shows nothing"

    def _has_started(self) -> bool:
        return self._log().count('"source_opened"') > 0 or self._log().count('"service_started"') > 0

    def _read(self, flow: str) -> int:
        """How many records the flow, or any, has read so far."""
        if not (self._folder / ".millrace" / "address.json").exists():
            return 0
        status = self._run(f"millrace status --json {flow}")
        assert status.returncode == 0, status.stderr
        return sum(found["published"] + found["foreign"] for found in json.loads(status.stdout).values())

    def _shows(self, command: str) -> bool:
        done = self._run(command)
        return done.returncode == 0 and bool(done.stdout.strip())

    def _until(self, claim: object) -> None:
        def holds() -> bool:
            assert self._running is not None
            assert self._running.poll() is None, f"ended with {self._running.returncode}:\n{self._log()}"
            return bool(claim())  # type: ignore[operator]

        eventually(holds, PATIENCE)

    def _ctrl_c(self) -> None:
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)
            assert self._running.wait(PATIENCE) == 0, self._log()
            self._running = None

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "running.log").open("wb") as log:
            return subprocess.Popen(
                ["bash", "-c", f"{_with_exec(command)}"],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self) -> str:
        return (self._folder / "running.log").read_text(errors="replace")

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def _with_exec(command: str) -> str:
    """The command in place of its shell, so that signals reach it: variables before it go before `exec`, too."""
    words = command.split(" ")
    count = next(number for number, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return " ".join([*(f"export {word};" for word in words[:count]), "exec", *words[count:]])
