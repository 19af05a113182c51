"""Messages: what KEDA and a scaler say to each other, as externalscaler.proto has it, for any version of protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"

_TYPES = descriptor_pb2.FieldDescriptorProto
_FIELDS: dict[str, dict[str, str]] = {
    "ScaledObjectRef": {"name": "string", "namespace": "string", "scalerMetadata": "map"},
    "IsActiveResponse": {"result": "bool"},
    "GetMetricSpecResponse": {"metricSpecs": "MetricSpec"},
    "MetricSpec": {"metricName": "string", "targetSize": "int64", "targetSizeFloat": "double"},
    "GetMetricsRequest": {"scaledObjectRef": "one ScaledObjectRef", "metricName": "string"},
    "GetMetricsResponse": {"metricValues": "MetricValue"},
    "MetricValue": {"metricName": "string", "metricValue": "int64", "metricValueFloat": "double"},
}
"""The fields of each message, in the order of their numbers. The name of a message alone is a list of them."""

_METHODS = (
    ("IsActive", "ScaledObjectRef", "IsActiveResponse", False),
    ("StreamIsActive", "ScaledObjectRef", "IsActiveResponse", True),
    ("GetMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse", False),
    ("GetMetrics", "GetMetricsRequest", "GetMetricsResponse", False),
)


def description() -> descriptor_pb2.FileDescriptorProto:
    """Return what protoc makes of externalscaler.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            _add(message, field, number, kind)
    service = file.service.add(name="ExternalScaler")
    for method, asked, answered, streams in _METHODS:
        found = service.method.add(
            name=method, input_type=f".{PACKAGE}.{asked}", output_type=f".{PACKAGE}.{answered}", options={}
        )
        if streams:
            found.server_streaming = True
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number, json_name=name, label=_TYPES.LABEL_OPTIONAL)
    if kind in ("string", "bool", "int64", "double"):
        field.type = _TYPES.Type.Value(f"TYPE_{kind.upper()}")
        return
    field.type = _TYPES.TYPE_MESSAGE
    if kind == "map":
        pair = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry", options={"map_entry": True})
        _add(pair, "key", 1, "string")
        _add(pair, "value", 2, "string")
        kind = f"{message.name}.{pair.name}"
    if not kind.startswith("one "):
        field.label = _TYPES.LABEL_REPEATED
    field.type_name = f".{PACKAGE}.{kind.removeprefix('one ')}"


_pool = descriptor_pool.DescriptorPool()  # of our own: a client of KEDA's in this process may have the same names
_pool.Add(description())


def message(name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef = message("ScaledObjectRef")
IsActiveResponse = message("IsActiveResponse")
GetMetricSpecResponse = message("GetMetricSpecResponse")
MetricSpec = message("MetricSpec")
GetMetricsRequest = message("GetMetricsRequest")
GetMetricsResponse = message("GetMetricsResponse")
MetricValue = message("MetricValue")
