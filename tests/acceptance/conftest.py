"""What the acceptance tests share: whether there is a Docker engine to run them on."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

os.environ["UI_PORT"] = "0"  # any free one: several stacks run here at a time


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no Docker engine with Compose v2 answers, or fails where `MILLRACE_DOCKER=required`, as in CI."""
    reason = _why_not()
    if reason and os.environ.get("MILLRACE_DOCKER") == "required":
        pytest.fail(f"MILLRACE_DOCKER=required, but {reason}")
    if reason:
        pytest.skip(reason)


def _why_not() -> str | None:
    if shutil.which("docker") is None:
        return "there is no docker command here"
    for command, what in (
        (["docker", "info"], "no Docker engine"),
        (["docker", "compose", "version"], "no Compose v2"),
    ):
        said = subprocess.run(command, capture_output=True, text=True)
        if said.returncode:
            return f"{what} here: {(said.stderr or said.stdout).strip().splitlines()[-1]}"
    return None
