"""KEDA: answers its external-push gRPC: is there work, and how many consumers should there be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgspec
import structlog

from millrace.scaling import messages
from millrace.scaling.decision import Rules
from millrace.scaling.scaler import Answer, Question, Scaler
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.flows.units import seconds

log = structlog.get_logger(__name__)

METRIC = "consumers"
"""What KEDA is told a number of, with a target of 1 for each replica: then the number is that of the replicas."""

STREAMS = 200
"""So many ScaledObjects may listen at once; each has a thread while it does."""

AGAIN_SECONDS = 30.0
"""So often a stream says what it said before, so that one whose other end is gone is found out."""

OF_A_TRIGGER = ("flow", "max", "age", "calm")


class Keda:
    """Listens from `start` to `close`, without TLS: let only KEDA in."""

    def __init__(self, scaler: Scaler, places: Sequence[str]) -> None:
        self._scaler = scaler
        self._server = grpc.server(
            ThreadPoolExecutor(STREAMS + 8, thread_name_prefix="keda"), options=[("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self._places = places
        self.addresses: list[str] = []
        """Where it listens, with the port that was free where none was asked for."""

    def start(self) -> None:
        """Listen. Raises ConfigError where that can't be."""
        for place in self._places:
            try:
                port = self._server.add_insecure_port(place)
            except RuntimeError:
                raise ConfigError(f"--grpc: can't listen on {place}: choose another port, or address") from None
            self.addresses.append(f"{place.rpartition(':')[0]}:{port}")
        self._server.start()

    def close(self) -> None:
        """Listen no more; a question that is under way has a second."""
        self._server.stop(grace=1.0).wait()

    def _handlers(self) -> Any:
        def unary(answer: Callable[[Any], Any], asked: Any, answered: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._told(context, lambda: answer(request)),
                request_deserializer=asked.FromString,
                response_serializer=answered.SerializeToString,
            )

        stream = grpc.unary_stream_rpc_method_handler(
            self._stream,
            request_deserializer=messages.ScaledObjectRef.FromString,
            response_serializer=messages.IsActiveResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            messages.SERVICE,
            {
                "IsActive": unary(self._is_active, messages.ScaledObjectRef, messages.IsActiveResponse),
                "StreamIsActive": stream,
                "GetMetricSpec": unary(self._spec, messages.ScaledObjectRef, messages.GetMetricSpecResponse),
                "GetMetrics": unary(self._metrics, messages.GetMetricsRequest, messages.GetMetricsResponse),
            },
        )

    def _is_active(self, asked: Any) -> Any:
        return messages.IsActiveResponse(result=self._answer(asked).desired > 0)

    def _spec(self, asked: Any) -> Any:
        self._question(asked)  # what is wrong with it is said now
        spec = messages.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return messages.GetMetricSpecResponse(metricSpecs=[spec])

    def _metrics(self, asked: Any) -> Any:
        desired = self._answer(asked.scaledObjectRef).desired
        name = asked.metricName or METRIC
        value = messages.MetricValue(metricName=name, metricValue=desired, metricValueFloat=float(desired))
        return messages.GetMetricsResponse(metricValues=[value])

    def _stream(self, asked: Any, context: Any) -> Iterator[Any]:
        told: bool | None = None
        looks, silent = -1, 0.0
        while context.is_active() and not self._scaler.over:
            try:
                active: bool | None = self._answer(asked).desired > 0
            except ConfigError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except QueueUnavailable:
                active = told  # nothing is known: nothing is said
            if active is not None and (active != told or silent >= AGAIN_SECONDS):
                yield messages.IsActiveResponse(result=active)
                told, silent = active, 0.0
            looks = self._scaler.wait(looks, 1.0)
            silent += 1.0

    def _answer(self, asked: Any) -> Answer:
        return self._scaler.answer(self._question(asked))

    def _question(self, asked: Any) -> Question:
        given = dict(asked.scalerMetadata)
        return Question(given.get("flow", ""), rules_of(given, self._scaler.rules), f"{asked.namespace}/{asked.name}")

    def _told(self, context: Any, answer: Callable[[], Any]) -> Any:
        try:
            return answer()
        except ConfigError as error:
            log.warning("keda_misasked", reason=str(error), mend="mend the trigger's metadata in the ScaledObject")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except QueueUnavailable as error:  # KEDA then leaves things as they are, or does what `fallback` says
            context.abort(grpc.StatusCode.UNAVAILABLE, f"Redis can't be asked: {error}")


def rules_of(given: Mapping[str, str], others: Rules) -> Rules:
    """Return the rules of a trigger: what its metadata says, in place of the scaler's own. Raises ConfigError.

    The least number, and when there is none at all, are KEDA's own to say: minReplicaCount and cooldownPeriod.
    """
    own: dict[str, float] = {}
    for name, text in given.items():
        if name == "scalerAddress":
            continue  # KEDA passes on all there is
        if name not in OF_A_TRIGGER and not name.startswith(("tls", "ca", "clientCert", "unsafe", "enable")):
            raise ConfigError(f"metadata.{name}: expected {', '.join(OF_A_TRIGGER)}")
        try:
            if name == "max":
                own[name] = int(text)
            elif name in ("age", "calm"):
                own[name] = seconds(text)
        except ValueError as error:
            raise ConfigError(f"metadata.{name}: expected a number such as 8, or a duration such as 30s") from error
    return msgspec.structs.replace(others, min=0, idle=0.0, **own).checked()
