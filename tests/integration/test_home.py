"""The embedded Valkey of a folder: shared by all who need it, there while they do, and known from any other."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import millrace
from millrace.embedded import Embedded
from millrace.home import Home
from millrace.server import server_of, without_secrets
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.settings import Settings
from tests.conftest import eventually
from tests.integration.projects import KEY, Folder, books_at
from tests.integration.scrapyproject import QUICK, make_project
from tests.services import PATIENCE, Service, children_of, lives

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / ".millrace")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "folder", NOBODY)
    yield folder
    folder.end()


def address(service: Service) -> str:
    return str(service.await_event("valkey_started")["url"])


def test_who_comes_second_finds_the_server_and_who_leaves_last_ends_it(home: Home) -> None:
    first, second = home.visit(), home.visit()
    assert first.url == second.url == home.running()
    first.close()
    assert home.running() == second.url
    with redis.Redis.from_url(second.url) as client:
        client.set("left", 1)
    second.close()
    eventually(lambda: home.running() is None)
    third = home.visit()
    with redis.Redis.from_url(third.url) as client:
        assert client.get("left") == b"1"
    third.close()
    assert home.running() is None  # who started it and leaves last waits for its end


def test_the_next_server_comes_up_where_the_last_one_was(home: Home) -> None:
    visit = home.visit()
    visit.close()
    again = home.visit()
    again.close()
    assert visit.url == again.url


def test_many_at_once_share_one_server(folder: Folder) -> None:
    folder.write(3)
    assert folder.call("run", "--until-empty").returncode == 0
    looking = [folder.start("status", "--json") for _ in range(5)]
    assert [one.wait() for one in looking] == [0] * 5, [one.said for one in looking]
    assert {json.loads(one.printed)["log"]["delivered"] for one in looking} == {3}
    eventually(lambda: folder.home.running() is None)


VISIT = "import pathlib, sys, threading; from millrace.home import Home; v = Home(pathlib.Path(sys.argv[1])).visit()"


def test_a_server_that_is_killed_comes_back_where_it_was_with_all_it_had(home: Home) -> None:
    visit = home.visit()
    with redis.Redis.from_url(visit.url) as client:
        client.set("kept", "1")
        client.execute_command("BGREWRITEAOF")
        before = client.info("server")
        eventually(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
    os.kill(before["process_id"], signal.SIGKILL)

    def is_back() -> bool:
        with redis.Redis.from_url(visit.url) as client:
            try:
                return client.get("kept") == b"1" and client.info("server")["process_id"] != before["process_id"]
            except redis.RedisError:
                return False

    eventually(is_back)
    eventually(lambda: home.running() == visit.url)  # which is left a moment after the server answers
    visit.close()
    assert home.running() is None


def test_a_user_that_is_killed_leaves_no_server(home: Home) -> None:
    words = [sys.executable, "-c", f"{VISIT}; print(v.url, flush=True); threading.Event().wait()", str(home.folder)]
    user = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert user.stdout
    assert user.stdout.readline().decode().strip() == home.running()
    children = children_of(user.pid)
    assert len(children) == 3  # the keeper, the Valkey and who watches it
    user.kill()
    user.communicate()
    eventually(lambda: not any(map(lives, children)))


def test_a_keeper_holds_nothing_of_who_started_it_open(home: Home) -> None:
    """Else a pipe behind a command would not end with the command, but with whoever uses the server last."""
    words = [sys.executable, "-c", f"{VISIT}; print(v.url, flush=True); sys.stdin.read(); v.close()", str(home.folder)]
    user = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert user.stdout
    url = user.stdout.readline().decode().strip()
    other = home.visit()
    user.communicate(timeout=PATIENCE)  # until the end of its output
    assert home.running() == other.url == url
    other.close()
    eventually(lambda: home.running() is None)


def test_another_server_at_the_address_left_there_is_not_taken_for_it(home: Home) -> None:
    home.visit().close()
    left = json.loads((home.folder / "address.json").read_text())
    with Embedded(port=left["port"]) as other:
        assert home.running() is None
        visit = home.visit()
        assert visit.url != other.url
        visit.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"url": 1}', '{"url": "x", "port": "y", "run_id": "z"}'])
def test_an_address_that_can_t_be_read_is_none(home: Home, text: str) -> None:
    home.folder.mkdir()
    (home.folder / "address.json").write_text(text)
    assert home.running() is None


def test_a_folder_that_can_t_be_written_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"can't write .*file.*REDIS_URL"):
        Home(tmp_path / "file").visit()


def test_why_the_server_could_not_start_reaches_who_wanted_it(home: Home) -> None:
    home.data.mkdir(parents=True)
    (home.data / "appendonlydir").write_text("in the way")
    with pytest.raises(ConfigError, match=r"(?s)the embedded Valkey did not start.*appendonlydir"):
        home.visit()
    assert not (home.data / "appendonlydir").is_dir()


def test_data_that_another_s_server_holds_is_not_waited_for_for_ever(home: Home) -> None:
    with Embedded(data_dir=home.data), pytest.raises(ConfigError, match="belongs to a server that is running"):
        home.visit()


def test_a_run_shares_the_server_that_a_command_has_started(folder: Folder) -> None:
    folder.write(3)
    assert folder.call("run", "--until-empty").returncode == 0
    following = folder.start("verify", "--follow", "--json")
    following.until(lambda: following.printed)
    url = folder.home.running()
    again = folder.start("run", "--until-empty")
    assert again.wait() == 0, again.said
    assert address(again) == url == folder.home.running()
    assert following.terminate() == 0, following.said
    eventually(lambda: folder.home.running() is None)


@pytest.mark.parametrize("words", [["status", "--json"], ["dead", "ls", "log"], ["check", "--connect"]])
def test_a_command_beside_a_run_asks_its_server(folder: Folder, words: list[str]) -> None:
    run = folder.write(3, function="endless").start("run")
    url = address(run)
    eventually(lambda: books_at(url).delivered > 3)
    done = folder.call(*words)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"Redis: the embedded Valkey of this folder (.millrace/, {url})"
    assert run.terminate() == 0, run.said
    assert folder.home.running() is None


def test_produce_and_consume_beside_a_run_use_its_server(folder: Folder) -> None:
    run = folder.write(3, function="endless").start("run")
    url = address(run)
    produce, consume = folder.start("produce", "log"), folder.start("consume")
    for service in (produce, consume):
        assert url in service.await_event("redis_found")["redis"]
    eventually(lambda: books_at(url).published > 8)
    assert run.terminate() == 0, run.said
    assert folder.home.running() == url  # they still use it
    assert [produce.terminate(), consume.terminate()] == [0, 0], produce.said + consume.said
    eventually(lambda: folder.home.running() is None)


def test_a_reader_and_a_writer_use_the_folder_s_server_and_let_it_go(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(3)
    assert folder.call("run", "--until-empty").returncode == 0
    monkeypatch.chdir(folder.path)
    for name in ("REDIS_URL", "REDIS_URL_FILE", "MILLRACE_FLOWS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MILLRACE_DEFAULT_REDIS_URL", NOBODY)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    with millrace.writer("log") as writer:
        writer.write({"n": 99})
    assert folder.home.running() is None
    with millrace.reader("log", until_empty=True) as messages:
        assert [message.data["n"] for message in messages] == [99]
        messages.checkpoint()
    assert folder.home.running() is None
    sys.modules.pop("theirs", None)


def test_a_scrapy_crawl_below_the_folder_puts_its_items_on_the_folder_s_server(folder: Folder) -> None:
    folder.write(3)
    assert folder.call("run", "--until-empty").returncode == 0
    pipelines = 'ITEM_PIPELINES = {"millrace.scrapy.RedisPipeline": 900}\n' + f'MILLRACE_KEY = "{KEY}"\n'
    settings = pipelines + "".join(f"{name} = {value!r}\n" for name, value in QUICK.items())
    crawler = make_project(folder.path / "crawler", settings=settings)
    crawl = subprocess.run(
        [sys.executable, "-m", "scrapy", "crawl", "names"],
        cwd=crawler,
        env=folder.environ(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "publishing to the embedded Valkey of this folder" in crawl.stderr, crawl.stderr
    assert folder.books().ready == 2


def test_a_second_run_of_a_flow_is_refused_and_one_of_another_shares(folder: Folder) -> None:
    folder.write(3, function="endless")
    flows = folder.path / "flows.yaml"
    text = flows.read_text()
    flows.write_text(text + text.partition("flows:\n")[2].replace("log:", "other:").replace("some", "other"))
    run = folder.start("run", "log")
    url = address(run)
    second = folder.call("run", "log")
    assert second.returncode == 2
    assert re.search(r"millrace run is running here already \(pid \d+\), with flow log: stop it", second.stderr)
    other = folder.start("run", "other")
    assert address(other) == url
    assert [other.terminate(), run.terminate()] == [0, 0], run.said + other.said


def test_a_port_that_the_running_server_has_not_is_refused(folder: Folder) -> None:
    run = folder.write(3, function="endless").start("run")
    url = address(run)
    second = folder.call("run", "--port", "1")
    assert second.returncode == 2
    assert "millrace run is running here already" in second.stderr
    with pytest.raises(ConfigError, match=f"runs already, at {url}: leave --port 1 out"):
        folder.home.visit(port=1)
    assert run.terminate() == 0


def test_a_folder_in_which_nothing_ran_asks_the_default_and_makes_nothing(folder: Folder) -> None:
    done = folder.write(3).call("status")
    assert done.returncode == 4
    assert f"Redis: {NOBODY} (the default: REDIS_URL is not set)" in done.stderr
    assert not folder.home.folder.exists()


def test_redis_url_goes_before_the_folder_s_own(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.data.mkdir(parents=True)
    monkeypatch.setenv("REDIS_URL", "redis://me:secret@redis.example/0")
    server = server_of(Settings.load(), folder=home.folder.parent)
    assert (server.kind, str(server)) == ("told", "redis://redis.example/0")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@redis.example:6379/0", "redis://redis.example:6379/0"),
        ("rediss://:secret@[::1]:6380/1?password=secret", "rediss://[::1]:6380/1"),
        ("unix://:secret@/run/redis.sock?db=0&password=secret", "unix:///run/redis.sock"),
        ("redis+sentinel://me:secret@one:26379,two/primary/0", "redis+sentinel://one:26379,two/primary/0"),
    ],
)
def test_an_address_is_told_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_a_child_that_is_forked_off_does_not_keep_the_server_for_ever(home: Home) -> None:
    visit = home.visit()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent says so
        os._exit(0)
    visit.close()
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)
    with home.users.open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
    eventually(lambda: home.running() is None)
