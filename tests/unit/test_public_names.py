"""The public import: every name that `millrace` promises is there, and is asked for only when used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import millrace


@pytest.mark.parametrize("name", sorted(millrace.__all__))
def test_a_public_name_can_be_imported(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from millrace import {name}", namespace)
    assert namespace[name] is getattr(millrace, name)
    assert name in dir(millrace)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Snik'"):
        millrace.Snik  # noqa: B018


def test_importing_millrace_loads_no_client_library() -> None:
    code = "import sys, millrace; print(*({'redis', 'pydantic', 'scrapy', 'pyarrow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
