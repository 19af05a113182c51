"""Lean: libraries without the parts that no command uses, and that cost every start a third of its time.

structlog comes without Twisted and Rich, which it imports wherever they are installed. redis comes with its asyncio
half put off until somebody asks for something in it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LATER = "redis.asyncio"


class _OnDemand(Loader):
    """Loads a package once something in it is asked for. Its modules can be imported before.

    importlib's LazyLoader would load it for its first module, and half of redis imports one.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `Loader.create_module`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See `Loader.exec_module`."""

        def load(name: str) -> Any:
            del module.__dict__["__getattr__"]
            self._loader.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = load  # which is called for what the module lacks (PEP 562)


class _Finder(MetaPathFinder):
    """Finds one package, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        if fullname != LATER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _OnDemand(spec.loader)
        return spec


def put_off() -> None:
    """Import structlog lean, and have redis imported lean by whoever is first; where neither is imported yet."""
    if "structlog" not in sys.modules:
        absent = [name for name in ("twisted", "rich") if name not in sys.modules]
        for name in absent:
            sys.modules[name] = None  # type: ignore[assignment]  # what can't be imported
        import structlog  # noqa: F401

        for name in absent:
            del sys.modules[name]
    if "redis" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
