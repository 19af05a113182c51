"""`millrace scaler`: what it tells over HTTP, to Prometheus, and to a real gRPC client that asks as KEDA does."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from millrace.embedded import Embedded
from millrace.scaling import messages
from millrace_pipeline.queue.roles import READER
from tests.conftest import eventually
from tests.integration.test_acl import version_of
from tests.services import Place, Service

PROTO = Path(messages.__file__).parent
CALM = ("--calm", "1s", "--idle", "1s")
PUSHED = {"source": {"type": "external"}}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What KEDA's own tools make of our proto: the messages and the client."""
    folder = tmp_path_factory.mktemp("keda")
    out = (f"--python_out={folder}", f"--grpc_python_out={folder}")
    assert protoc.main(["protoc", f"-I{PROTO}", *out, "externalscaler.proto"]) == 0
    sys.path.insert(0, str(folder))
    return importlib.import_module("externalscaler_pb2"), importlib.import_module("externalscaler_pb2_grpc")


class AsKeda:
    """A client that asks for one ScaledObject, as KEDA's operator does."""

    def __init__(self, generated: tuple[Any, Any], address: str, **metadata: str) -> None:
        self.words, grpcs = generated
        self.channel = grpc.insecure_channel(address)
        self.stub = grpcs.ExternalScalerStub(self.channel)
        # KEDA passes on all of the trigger's metadata, its own address included.
        given = {"scalerAddress": address, **metadata}
        self.ref = self.words.ScaledObjectRef(name="consumer", namespace="shop", scalerMetadata=given)

    def active(self) -> bool:
        return bool(self.stub.IsActive(self.ref, timeout=5).result)

    def replicas(self) -> float:
        """What the autoscaler of Kubernetes makes of spec and metric: value by target."""
        (spec,) = self.stub.GetMetricSpec(self.ref, timeout=5).metricSpecs
        asked = self.words.GetMetricsRequest(scaledObjectRef=self.ref, metricName=spec.metricName)
        (metric,) = self.stub.GetMetrics(asked, timeout=5).metricValues
        assert metric.metricName == spec.metricName
        assert (metric.metricValue, spec.targetSize) == (metric.metricValueFloat, spec.targetSizeFloat)
        return float(metric.metricValueFloat / spec.targetSizeFloat)


def started(place: Place, *options: str, **environ: str) -> tuple[Service, str]:
    scaler = place.start("scaler", "--grpc", "127.0.0.1:0", *options, http=True, **environ)
    return scaler, scaler.await_event("keda_served")["grpc"]


def told(scaler: Service, flow: str = "numbers") -> dict[str, Any]:
    status, body = scaler.get(f"/scale/{flow}")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def test_our_messages_are_what_protoc_makes_of_the_proto(tmp_path: Path) -> None:
    found = tmp_path / "set"
    assert protoc.main(["protoc", f"-I{PROTO}", f"--descriptor_set_out={found}", "externalscaler.proto"]) == 0
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(found.read_bytes()).file
    assert file == messages.description()


def test_keda_wakes_a_flow_and_lets_it_sleep_again(place: Place, generated: tuple[Any, Any]) -> None:
    place.flow(**PUSHED)
    _, address = started(place, *CALM)
    keda = AsKeda(generated, address, flow="numbers", max="3")
    eventually(lambda: not keda.active())
    assert keda.replicas() == 0
    place.publish(range(5))
    eventually(keda.active, 5)
    assert keda.replicas() == 1
    place.deliver_the_rest()
    eventually(lambda: not keda.active(), 20)


def test_a_stream_tells_of_each_change_and_of_nothing_else(place: Place, generated: tuple[Any, Any]) -> None:
    place.flow(**PUSHED)
    _, address = started(place, *CALM)
    keda = AsKeda(generated, address, flow="numbers")
    heard: list[bool] = []
    stream = keda.stub.StreamIsActive(keda.ref)

    def listening() -> None:
        with contextlib.suppress(grpc.RpcError):
            heard.extend(bool(one.result) for one in stream)

    thread = threading.Thread(target=listening)
    thread.start()
    eventually(lambda: heard == [False])
    place.publish(range(5))
    eventually(lambda: heard == [False, True], 5)
    place.deliver_the_rest()
    eventually(lambda: heard == [False, True, False])
    stream.cancel()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"flow": "nobodys"}, "expected numbers"),
        ({}, "expected numbers"),
        ({"flow": "numbers", "max": "many"}, "max"),
        ({"flow": "numbers", "age": "soon"}, "age"),
        ({"flow": "numbers", "threshold": "5"}, "threshold"),
        ({"flow": "numbers", "max": "0"}, "max"),
    ],
)
def test_a_trigger_that_is_wrong_is_told_why(
    place: Place, generated: tuple[Any, Any], metadata: dict[str, str], words: str
) -> None:
    place.flow(**PUSHED)
    _, address = started(place)
    keda = AsKeda(generated, address, **metadata)
    for ask in (keda.active, keda.replicas, lambda: next(keda.stub.StreamIsActive(keda.ref))):
        with pytest.raises(grpc.RpcError) as caught:
            ask()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
        assert words in caught.value.details()  # type: ignore[attr-defined]


def test_without_redis_keda_hears_that_nothing_is_known(place: Place, generated: tuple[Any, Any]) -> None:
    place.flow(**PUSHED)
    scaler, address = started(place, REDIS_URL="redis://127.0.0.1:1/0")
    keda = AsKeda(generated, address, flow="numbers")
    for ask in (keda.active, keda.replicas):
        with pytest.raises(grpc.RpcError) as caught:
            ask()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert scaler.get("/scale/numbers")[0] == 503
    assert scaler.get("/readyz")[0] == 503
    assert scaler.get("/livez")[0] == 200
    assert scaler.terminate() == 0


def test_it_outlives_redis_and_sees_again(tmp_path: Path, key: str) -> None:
    with Embedded() as server, Place(tmp_path, server.url, key) as place:
        place.flow(**PUSHED)
        scaler = place.start("scaler", http=True)
        eventually(lambda: scaler.get("/scale/numbers")[0] == 200)
        server.stop()
        eventually(lambda: scaler.get("/scale/numbers")[0] == 503)
        server.start()
        eventually(lambda: scaler.get("/scale/numbers")[0] == 200)


def test_it_says_in_json_and_to_prometheus_how_a_flow_stands(place: Place) -> None:
    place.flow(**PUSHED)
    place.publish(range(25))
    scaler = place.start("scaler", *CALM, http=True)
    eventually(lambda: scaler.get("/scale/numbers")[0] == 200)
    found = told(scaler)
    assert {"ready", "in_flight", "delayed", "oldest_seconds", "rate", "drain_seconds", "desired"} <= found.keys()
    assert (found["ready"], found["in_flight"], found["desired"]) == (25, 0, 1)
    metrics = scaler.get("/metrics")[1]
    assert 'millrace_scale_desired_consumers{flow="numbers"} 1.0' in metrics
    assert 'millrace_lag_records{flow="numbers"} 25.0' in metrics
    assert scaler.get("/scale/nobodys")[0] == 404
    with place.queue() as queue:  # a batch whose consumer died; nobody may wait for it for ever
        assert queue.claim(10) is not None
    eventually(lambda: told(scaler)["in_flight"] == 10)


def test_a_rate_is_learnt_from_consumers_that_work(place: Place) -> None:
    place.module("import time\n\ndef dawdle(record):\n    time.sleep(0.01)\n    return record\n")
    place.flow(**PUSHED, transforms=["theirs:dawdle"])
    scaler = place.start("scaler", http=True)
    place.publish(range(600))
    place.consume("numbers")
    eventually(lambda: scaler.get("/scale/numbers")[0] == 200)
    eventually(lambda: (told(scaler)["rate"] or 0) > 0 and told(scaler)["seen"]["consumers"] == 1, 30)
    eventually(lambda: place.books().delivered > 400, 30)
    found = told(scaler)
    assert 30 < found["rate"] < 110, found
    assert found["drain_seconds"] == pytest.approx(found["seen"]["ready"] / found["rate"], rel=1)


def test_the_role_reader_is_enough_and_no_script_runs(tmp_path: Path, key: str, generated: tuple[Any, Any]) -> None:
    with Embedded() as server, Place(tmp_path, server.url, key) as place:
        place.flow(**PUSHED)
        place.publish(range(5))
        with redis.Redis.from_url(server.url) as client:
            rules = READER.rules([place.key_of()], version=version_of(server))
            client.execute_command("ACL", "SETUSER", "looker", "reset", "on", "nopass", *rules.split())
        url = server.url.replace("redis://", "redis://looker:x@")
        scaler, address = started(place, REDIS_URL=url)
        eventually(lambda: scaler.get("/scale/numbers")[0] == 200)
        assert AsKeda(generated, address, flow="numbers").active()
        assert 'millrace_ready_records{flow="numbers"} 5.0' in scaler.get("/metrics")[1]
        assert not scaler.events("standing_not_shown")


def test_an_address_that_is_taken_is_named(place: Place, generated: tuple[Any, Any]) -> None:
    place.flow(**PUSHED)
    _, address = started(place)
    second = place.start("scaler", "--grpc", address, http=True)
    assert second.wait() == 2
    assert address in second.said
    assert "choose another" in second.said
