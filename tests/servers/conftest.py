"""Which server the tests run on."""

from __future__ import annotations

import pytest

from tests.conftest import IN_THE_WHEEL


@pytest.fixture
def asked(pytestconfig: pytest.Config) -> str:
    """The server that `--server` names."""
    name: str | None = pytestconfig.getoption("--server")
    return name or IN_THE_WHEEL
