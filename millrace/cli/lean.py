"""Lean: libraries without the parts that no command uses, and that cost every start a third of its time.

structlog comes without Twisted and Rich, and redis without OpenTelemetry, which they import wherever these are
installed; redis comes with its asyncio half put off until somebody asks for something in it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

WITHOUT = {"structlog": ("twisted", "rich"), "redis": ("opentelemetry",)}
LATER = "redis.asyncio"


class _Without(Loader):
    """Loads a module that can't import some packages meanwhile. Others can, and it later."""

    def __init__(self, loader: Loader, packages: Sequence[str]) -> None:
        self._loader = loader
        self._packages = packages

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `Loader.create_module`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See `Loader.exec_module`."""
        hidden = {name: sys.modules.get(name) for name in self._packages}
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # what can't be imported
        try:
            self._loader.exec_module(module)
        finally:
            for name, module_there in hidden.items():
                if module_there is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module_there


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
    """Finds these modules, and has them loaded lean."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        if fullname != LATER and fullname not in WITHOUT:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            lean = _OnDemand(spec.loader) if fullname == LATER else _Without(spec.loader, WITHOUT[fullname])
            spec.loader = lean
        return spec


def be_lean() -> None:
    """Have these modules loaded lean from now on, by whoever imports them."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
