"""`millrace up`, `scale` and the others: what they say when something is missing. The real thing is test_compose.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace.cli import stack as cli
from millrace.stack import Replica, Stack
from millrace_pipeline.errors import ConfigError, StackError

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"


def test_replicas_are_written_service_equals_number() -> None:
    assert cli.replicas(["consumer=4", "producer-quotes=0"]) == {"consumer": 4, "producer-quotes": 0}


@pytest.mark.parametrize("wrong", ["consumer", "consumer=", "=4", "consumer=-1", "consumer=x", "consumer=１"])
def test_anything_else_is_said_with_an_example(wrong: str) -> None:
    with pytest.raises(ConfigError, match="consumer=4"):
        cli.replicas([wrong])


def test_a_machine_without_docker_is_told_how_to_do_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"install Docker .* `millrace run`"):
        Stack([COMPOSE_FILE])


def test_a_compose_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"no compose file .*nowhere\.yml: .*--file"):
        Stack([tmp_path / "nowhere.yml"])


def test_ended_well_is_well_and_failed_is_not() -> None:
    assert cli.well(Replica("producer-quotes", "p-1", "exited", "", 0))
    assert cli.well(Replica("consumer", "c-1", "running", "starting", None))
    assert not cli.well(Replica("consumer", "c-1", "running", "unhealthy", None))
    assert not cli.well(Replica("consumer", "c-1", "exited", "", 137))
    assert not cli.well(Replica("consumer", "c-1", "restarting", "", None))


@pytest.mark.parametrize("command", ["up", "down", "scale", "logs", "ps"])
def test_every_command_helps_with_an_example_and_its_exit_codes(command: str) -> None:
    said = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert f"millrace {command}" in said
    assert "Exit codes: 0" in said


@pytest.mark.docker
def test_without_an_engine_docker_is_quoted_and_the_mend_is_said(engine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    stack = Stack([COMPOSE_FILE])
    for command in (stack.ps, stack.up, stack.down, lambda: list(stack.logs())):
        with pytest.raises(StackError, match=r"(?s)Cannot connect to the Docker daemon.*Start the engine"):
            command()


@pytest.mark.docker
def test_a_folder_without_a_compose_file_is_said(engine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPOSE_FILE", raising=False)
    with pytest.raises(StackError, match=r"no configuration file provided.*\nGo to the folder"):
        Stack().ps()


@pytest.mark.docker
def test_a_service_that_does_not_exist_is_said(engine: None) -> None:
    with pytest.raises(StackError, match="no such service: nobody"):
        list(Stack([COMPOSE_FILE], project="millrace-test-none").logs(["nobody"]))
