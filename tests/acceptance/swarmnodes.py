"""Several Docker engines on this machine, as nodes of a swarm: each with a network, a host name and a data root of its
own, all on one bridge. A node's cable can be taken out, and its power. Needs root, dockerd and iproute2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.acceptance.stackrun import CommandFailed, until

BRIDGE = "br-millrace"
NETWORK = "10.78.0"
HOST = f"{NETWORK}.254"
"""Where a node reaches what listens on this machine."""

TOOLS = ("docker", "dockerd", "ip", "nsenter", "unshare", "iptables")
NOBODY = "http://127.0.0.1:1"
"""The way to any registry: a node asks for an image that it has, too, and is refused at once."""

RUN = Path("/run/millrace-swarm")  # short, since a socket's path is at most 107 characters
PARENT = "millrace-node"
PATIENCE = 180.0


def why_not() -> str | None:
    """Why there can be no nodes here, if there can't."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"there is no {', '.join(missing)} here"
    return None if os.geteuid() == 0 else "only root can make network namespaces"


class Nodes:
    """Nodes 1 to `count`; the first is the manager."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.numbers = range(1, count + 1)
        self.engines: dict[int, subprocess.Popen[bytes]] = {}
        self.made = False

    def up(self) -> None:
        """Starts all engines, and makes a swarm of them. Raises FileExistsError where others run such nodes here."""
        RUN.mkdir()
        self.made = True
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        run("iptables", "-I", "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")  # Docker drops it otherwise
        for number in self.numbers:
            name, end = f"mrnode{number}", f"mrsw{number}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", end, "master", BRIDGE, "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "addr", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", HOST)
            self.start(number)
        for number in self.numbers:
            self.await_engine(number)
        self.on(1, "swarm", "init", "--advertise-addr", f"{NETWORK}.1")
        token = self.on(1, "swarm", "join-token", "-q", "worker").strip()
        for number in self.numbers[1:]:
            manager = f"{NETWORK}.1:2377"
            self.on(number, "swarm", "join", "--advertise-addr", f"{NETWORK}.{number}", "--token", token, manager)

    def on(self, number: int, *words: str, stdin: str | None = None, patience: float = PATIENCE) -> str:
        """What `docker …` prints on a node."""
        socket = {**os.environ, "DOCKER_HOST": f"unix://{RUN}/{number}.sock"}
        return run("docker", *words, environ=socket, stdin=stdin, patience=patience)

    def load(self, *images: str, onto: Iterable[int] = ()) -> None:
        """Copies images of this machine's own engine to every node, or to these."""
        packed = self.folder / "images.tar"
        run("docker", "save", "--output", str(packed), *images, patience=600)
        failed: list[Exception] = []

        def take(number: int) -> None:
            try:
                self.on(number, "load", "--quiet", "--input", str(packed), patience=600)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=take, args=(number,)) for number in (onto or self.numbers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        packed.unlink()
        if failed:
            raise failed[0]

    def start(self, number: int) -> None:
        """Starts a node's engine, as after a power failure."""
        name, here = f"mrnode{number}", RUN / str(number)
        data = self.folder / f"node{number}"
        for path in (data, here):
            path.mkdir(exist_ok=True)
        for left in (RUN / f"{number}.sock", here / "docker.pid"):
            left.unlink(missing_ok=True)
        engine = (
            f"hostname node{number}; exec dockerd --data-root {data} --exec-root {here} --pidfile {here}/docker.pid "
            f"-H unix://{RUN}/{number}.sock --cgroup-parent /{PARENT}{number} --userland-proxy=false"
        )
        with (self.folder / f"node{number}.log").open("ab") as log:
            self.engines[number] = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "sh", "-c", engine],
                env={**os.environ, "HTTP_PROXY": NOBODY, "HTTPS_PROXY": NOBODY},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_engine(self, number: int) -> None:
        until(f"the engine of node {number}", lambda: self.on(number, "info"), PATIENCE)

    def cut(self, number: int) -> None:
        """Takes the node's cable out."""
        run("ip", "link", "set", f"mrsw{number}", "down")

    def heal(self, number: int) -> None:
        """Puts the node's cable back."""
        run("ip", "link", "set", f"mrsw{number}", "up")

    def kill(self, number: int) -> None:
        """SIGKILL to the engine and all its containers at once, as when the power fails."""
        self.engines[number].kill()
        _kill_all(number)
        self.engines[number].wait()

    def down(self) -> None:
        """Ends all that there is of these nodes, and leaves nothing behind."""
        if not self.made:
            return
        for engine in self.engines.values():
            engine.terminate()
        for number, engine in self.engines.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                engine.wait(30)
            if engine.poll() is None:
                engine.kill()
            _kill_all(number)
        for number in self.numbers:
            _perhaps("ip", "link", "del", f"mrsw{number}")
            _perhaps("ip", "netns", "del", f"mrnode{number}")
            for group in sorted(Path("/sys/fs/cgroup").rglob(f"{PARENT}{number}/**/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
        _perhaps("ip", "link", "del", BRIDGE)
        _perhaps("iptables", "-D", "FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")
        for place in sorted(_mounted(self.folder), reverse=True):
            _perhaps("umount", "-l", place)
        _perhaps("rm", "-rf", str(RUN), *(f"{self.folder}/node{number}" for number in self.numbers))


def run(*command: str, environ: dict[str, str] | None = None, stdin: str | None = None, patience: float = 60) -> str:
    """What a command prints. Raises CommandFailed with what it said."""
    done = subprocess.run(command, env=environ, input=stdin, capture_output=True, text=True, timeout=patience)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command[:6])}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _perhaps(*command: str) -> None:
    with contextlib.suppress(CommandFailed):
        run(*command, patience=300)


def _kill_all(number: int) -> None:
    """SIGKILL to all that runs on a node, until there is nothing left."""
    while left := {*_inside(number), *_beside(number)}:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        threading.Event().wait(0.05)


def _inside(number: int) -> Iterator[int]:
    """The processes of a node's containers."""
    for file in Path("/sys/fs/cgroup").rglob(f"{PARENT}{number}/**/cgroup.procs"):
        with contextlib.suppress(OSError):
            yield from (int(line) for line in file.read_text().split())


def _beside(number: int) -> Iterator[int]:
    """The engine's own, such as containerd and what it starts beside each container."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{RUN}/{number}/".encode() in file.read_bytes():
                yield int(file.parent.name)


def _mounted(folder: Path) -> list[str]:
    lines = Path("/proc/mounts").read_text().splitlines()
    return [place for line in lines if (place := line.split()[1]).startswith((f"{RUN}/", f"{folder}/node"))]
