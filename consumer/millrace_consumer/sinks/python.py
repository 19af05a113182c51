"""A function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import Sink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.reference import load_object
from millrace_pipeline.killpoints import killpoint


class PythonSink(Sink):
    """At least once, and exactly once if the function does nothing for a batch id that it has seen: calls a function.

    The function gets each batch; that it returns means that the batch is durable.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "yours: a function of a batch"
    guarantee: ClassVar[str] = "at least once; exactly once if the function heeds the batch's id"

    function: str = Field(description="The function, as module:function; a module may lie beside the flows file.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="What it gets besides the batch, by name."
    )

    _write: Callable[[Batch], object] | None = PrivateAttr(None)

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - the function gets any batch
        """Refuse a path that names no function, or one that doesn't take a batch and these arguments."""
        self._loaded()
        try:
            signature = inspect.signature(load_object(self.function))
        except (TypeError, ValueError):  # of some that are written in C
            return
        try:
            signature.bind(None, **self.arguments)
        except TypeError as error:
            raise ConfigError(
                f"function: {self.function} can't be called with a batch and these arguments: {error}"
            ) from None

    def write(self, batch: Batch) -> None:
        """Calls the function. What it raises counts as `Sink.write` says."""
        if not len(batch):
            return
        write = self._loaded()
        killpoint("sink.before_write")
        write(batch)
        killpoint("sink.after_write")

    def _loaded(self) -> Callable[[Batch], object]:
        if self._write is None:
            found = load_object(self.function)
            if not callable(found):
                raise ConfigError(f"function: {self.function} can't be called; name a function of a batch")
            self._write = partial(found, **self.arguments)
        return self._write
