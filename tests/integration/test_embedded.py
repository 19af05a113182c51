"""The embedded Valkey: a real server, started, looked into, killed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from millrace import embedded, memory
from millrace.embedded import Embedded
from millrace.memory import memory_bytes
from millrace_pipeline.errors import ConfigError


def client(server: Embedded) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=5)


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            return False
        threading.Event().wait(0.01)
    return True


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if sys.platform == "linux":
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return state != "Z"


@pytest.fixture
def parent() -> Iterator[Callable[[str], tuple[subprocess.Popen[bytes], list[str]]]]:
    """Runs a script that starts a server, says one line, and goes on; ends it with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> tuple[subprocess.Popen[bytes], list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().decode().split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_is_a_real_valkey_on_loopback_with_a_port_of_its_own() -> None:
    with Embedded() as server:
        assert urlsplit(server.url).hostname == "127.0.0.1"
        info = client(server).info()
        assert info["server_name"] == "valkey"
        assert info["valkey_version"].startswith("9.")
        assert info["process_id"] == server.pid
        assert info["tcp_port"] == server.port


def test_it_never_evicts_and_keeps_nothing_on_disk_unless_asked() -> None:
    with Embedded() as server:
        said = client(server).config_get("maxmemory-policy", "appendonly", "save")
    assert said == {"maxmemory-policy": "noeviction", "appendonly": "no", "save": ""}


def test_it_takes_half_of_the_memory_that_there_is_at_most() -> None:
    with Embedded() as server:
        (limit,) = client(server).config_get("maxmemory").values()
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(limit) == memory_bytes() // 2
    assert 0 < memory_bytes() <= there


@pytest.mark.parametrize(("said", "held"), [("1048576\n", 1 << 20), ("max\n", None), (None, None)])
def test_a_container_s_limit_is_the_memory_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, held: int | None
) -> None:
    if said is not None:
        (tmp_path / "memory.max").write_text(said)
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max",))
    assert memory_bytes() == (held or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def test_an_append_only_file_is_written_every_second_when_asked(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path, aof=True) as server:
        said = client(server).config_get("appendonly", "appendfsync", "dir")
    assert said == {"appendonly": "yes", "appendfsync": "everysec", "dir": str(tmp_path)}


def test_directives_are_passed_on_word_for_word() -> None:
    given = {"maxmemory": "64mb", "save": (900, 1, 300, 10), "requirepass": 'sp ace"#\\é/@'}
    with Embedded(config=given) as server:
        said = client(server).config_get("maxmemory", "save", "requirepass")
    assert said == {"maxmemory": str(64 << 20), "save": "900 1 300 10", "requirepass": given["requirepass"]}


def test_a_directive_that_valkey_refuses_is_named() -> None:
    with pytest.raises(ConfigError, match="no-such-directive") as caught, Embedded(config={"no-such-directive": 1}):
        pass
    assert "REDIS_URL" in str(caught.value)


def test_two_at_once_have_ports_and_data_of_their_own() -> None:
    with Embedded() as one, Embedded() as other:
        client(one).set("key", "one")
        assert one.port != other.port
        assert client(other).get("key") is None


def test_a_chosen_port_is_kept() -> None:
    port = embedded._free_port()
    with Embedded(port=port) as server:
        assert server.port == port
        assert client(server).ping()


def test_a_port_that_is_taken_is_said_with_the_mend() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* is taken: choose another"), Embedded(port=port):
            pass


def test_a_number_that_is_no_port_is_refused() -> None:
    with pytest.raises(ConfigError, match="70000 is no port"), Embedded(port=70000):
        pass


def test_a_free_port_that_somebody_else_takes_first_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with Embedded() as quicker, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ports = iter([quicker.port, listener.getsockname()[1], embedded._free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        with Embedded() as server:
            assert server.port not in (quicker.port, listener.getsockname()[1])
            assert client(server).info()["process_id"] == server.pid != quicker.pid


def test_a_unix_socket_is_for_this_user_only_and_there_is_no_port() -> None:
    with Embedded(unix_socket=True) as server:
        assert server.url.startswith("unix:///")
        assert server.socket_path is not None
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700
        assert client(server).config_get("port") == {"port": "0"}
        server.kill()
        server.start()
        assert client(server).ping()


def test_a_port_and_a_unix_socket_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="not on both"):
        Embedded(port=6379, unix_socket=True)


def test_a_socket_path_that_is_too_long_is_said_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="TMPDIR"):
        Embedded(unix_socket=True)


def test_data_survives_stop_and_start_on_the_same_port(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path, aof=True) as server:
        port = server.port
        client(server).set("key", "kept")
        server.stop()
        assert not server.running
        server.start()
        assert server.port == port
        assert client(server).get("key") == b"kept"


def test_data_survives_a_kill_once_it_was_synced(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path, aof=True, config={"appendfsync": "always"}) as server:
        client(server).set("key", "kept")
        was = server.pid
        server.kill()
        assert not lives(was)
        server.start()
        assert server.pid != was
        assert client(server).get("key") == b"kept"


def test_data_is_there_for_the_next_one_on_the_same_directory(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path / "new" / "one", aof=True) as server:
        client(server).set("key", "kept")
    with Embedded(data_dir=tmp_path / "new" / "one", aof=True) as server:
        assert client(server).get("key") == b"kept"


def test_a_large_append_only_file_is_loaded_before_start_returns(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path, aof=True) as server:
        client(server).eval("for i = 1, 300000 do redis.call('RPUSH', KEYS[1], i) end", 1, "list")
        server.stop()
        server.start()
        assert client(server).llen("list") == 300_000


def test_one_server_at_a_time_has_a_data_directory(tmp_path: Path) -> None:
    with (
        Embedded(data_dir=tmp_path, aof=True),
        pytest.raises(ConfigError, match="belongs to a server that is running"),
        Embedded(data_dir=tmp_path, aof=True),
    ):
        pass


@pytest.mark.parametrize("place", ["a file", "a directory without permission"])
def test_a_data_directory_that_cannot_be_written_is_said_with_the_mend(tmp_path: Path, place: str) -> None:
    if place == "a file":
        directory = tmp_path / "file"
        directory.write_text("")
    elif os.geteuid() == 0:
        directory = Path("/proc/millrace")  # root may write anywhere else
    else:
        directory = tmp_path / "locked"
        directory.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="make it writable or name another") as caught, Embedded(data_dir=directory):
        pass
    assert str(directory) in str(caught.value)


def test_a_platform_without_a_binary_is_told_to_set_redis_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigError, match=r"riscv64.*REDIS_URL"):
        Embedded()


def test_a_server_that_dies_by_itself_is_seen_and_can_be_started_again() -> None:
    with Embedded() as server:
        os.kill(server.pid, signal.SIGKILL)
        assert until(lambda: not server.running)
        with pytest.raises(ConfigError, match="not running"):
            _ = server.pid
        server.start()
        assert client(server).ping()


def test_nothing_is_left_after_the_block() -> None:
    with Embedded() as server:
        pid, scratch = server.pid, server.log_path.parent
        assert scratch.is_dir()
    assert not lives(pid)
    assert not scratch.exists()


@pytest.mark.parametrize("listens", ["", "unix_socket=True"])
def test_kill_dash_9_of_the_parent_leaves_no_server_and_no_scratch(parent: Callable, listens: str) -> None:
    process, (pid, scratch) = parent(f"""
        from millrace.embedded import Embedded
        server = Embedded({listens})
        server.start()
        print(server.pid, server.log_path.parent, flush=True)
        input()
    """)
    assert lives(int(pid))
    process.kill()
    assert until(lambda: not lives(int(pid)))
    assert until(lambda: not Path(scratch).exists())


def test_a_parent_that_ends_without_stopping_leaves_no_server(parent: Callable) -> None:
    process, (pid, scratch) = parent("""
        from millrace.embedded import Embedded
        server = Embedded()
        server.start()
        print(server.pid, server.log_path.parent, flush=True)
    """)
    process.wait(20)
    assert until(lambda: not lives(int(pid)))
    assert not Path(scratch).exists()


def test_a_server_started_in_a_thread_outlives_the_thread(parent: Callable) -> None:
    server = Embedded()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert not until(lambda: not server.running, seconds=0.3)
        assert client(server).ping()
    finally:
        server.close()


def test_a_forked_child_does_not_keep_the_server_alive(parent: Callable) -> None:
    process, (pid, child) = parent("""
        import os
        from millrace.embedded import Embedded
        server = Embedded()
        server.start()
        child = os.fork()
        if not child:
            os.read(0, 1)
            os._exit(0)
        print(server.pid, child, flush=True)
        os.waitpid(child, 0)
    """)
    assert lives(int(pid))
    process.kill()
    assert until(lambda: not lives(int(pid)))
    assert lives(int(child))
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert until(lambda: not lives(int(child)))


def test_a_forked_child_cannot_end_the_server(parent: Callable) -> None:
    _, (pid, scratch) = parent("""
        import os
        from millrace.embedded import Embedded
        server = Embedded()
        server.start()
        child = os.fork()
        if not child:
            server.close()
            os._exit(0)
        os.waitpid(child, 0)
        print(server.pid, server.log_path.parent, flush=True)
        input()
    """)
    assert not until(lambda: not lives(int(pid)), seconds=0.5)
    assert Path(scratch).is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_watcher_takes_the_server_with_it() -> None:
    with Embedded() as server:
        pid = server.pid
        assert server._watcher is not None
        os.kill(server._watcher.pid, signal.SIGKILL)
        assert until(lambda: not lives(pid))
        assert until(lambda: not server.running)


def test_a_restart_right_after_kill_dash_9_finds_port_and_data_free(tmp_path: Path, parent: Callable) -> None:
    process, (port, _) = parent(f"""
        import redis
        from millrace.embedded import Embedded
        server = Embedded(data_dir={str(tmp_path)!r}, aof=True, config={{"appendfsync": "always"}})
        server.start()
        redis.Redis.from_url(server.url).set("key", "kept")
        print(server.port, server.pid, flush=True)
        input()
    """)
    process.kill()
    with Embedded(port=int(port), data_dir=tmp_path, aof=True) as server:
        assert client(server).get("key") == b"kept"
