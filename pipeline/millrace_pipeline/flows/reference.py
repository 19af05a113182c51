"""Reference: a function or class that `flows.yaml` names by its dotted path, such as `flows:drop_canaries`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import Document
from millrace_pipeline.flows.problem import Steps, config_error
from millrace_pipeline.flows.validation import did_you_mean, told, without_values

_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class Reference:
    """A dotted path and where it stands."""

    def __init__(self, path: str, document: Document, steps: Steps) -> None:
        self.path = path
        self.steps = steps
        self._document = document

    @property
    def flow(self) -> str:
        """The name of the flow that it stands in."""
        return str(self.steps[1]) if len(self.steps) > 1 else ""

    @property
    def shown(self) -> str:
        """The path for a message; never one that came out of the environment."""
        return self._document.shown(self.steps, self.path)

    def load(self) -> Any:
        """What it names. Raises ConfigError, with its place, saying why it can't be had."""
        variables = self._document.variables(self.steps)
        try:
            return load_object(self.path)
        except ConfigError as error:
            # A path from the environment is not repeated, nor is the cause, whose traceback would.
            cause = None if variables else error.__cause__
            message = without_values(str(error), variables) or f"{self.shown} can't be imported: expected module:name"
        raise self.error(message) from cause

    def error(self, message: str) -> ConfigError:
        """An error about this reference, with its place."""
        return config_error(self._document.file, [self._document.problem(self.steps, message)])


def load_transform(reference: Reference) -> Callable[[Any], Any]:
    """The function. Raises ConfigError."""
    found = reference.load()
    if not callable(found):
        raise reference.error(f"{reference.shown} can't be called: expected a function of one record's data")
    return found  # type: ignore[no-any-return]


def load_model(reference: Reference) -> type[BaseModel]:
    """The model. Raises ConfigError."""
    found = reference.load()
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise reference.error(f"{reference.shown} is no pydantic model: expected a class derived from BaseModel")
    return found


def load_object(path: str) -> Any:
    """What `package.module:name` names. Raises ConfigError saying which part of it isn't there."""
    module_name, _, name = path.partition(":")
    if not _DOTTED.fullmatch(path):
        raise ConfigError(f"{path!r}: expected a dotted path, module:name, such as flows:drop_canaries")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{path}: there is no module {error.name} beside the flows file, or installed") from error
        needs = f"needs {error.name}, which is not installed" if error.name else f"fails: {told(error)}"
        raise ConfigError(f"{path}: {module_name} {needs}") from error
    except ConfigError:  # it lacks an optional library, and says so
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: {module_name} fails when it is imported: {told(error)}") from error
    home = getattr(found, "__file__", None) or "a folder without __init__.py"
    for part in name.split("."):
        if not hasattr(found, part):
            mend = did_you_mean(part, [other for other in dir(found) if not other.startswith("_")])
            raise ConfigError(f"{path}: {module_name} ({home}) has no {name}{': ' + mend if mend else ''}")
        found = getattr(found, part)
    return found
