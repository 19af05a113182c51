"""What goes wrong with a Kafka cluster, as errors of a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from millrace_producer.sources.base import SourceRefused, SourceUnavailable

REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.INVALID_GROUP_ID,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._AUTHENTICATION,
    KafkaError._INVALID_ARG,
}


@contextmanager
def telling() -> Iterator[None]:
    """Says in our words what the client library raises within: any call may raise an error that ends the client."""
    try:
        yield
    except KafkaException as error:
        raise error_of(said(error)) from None


def said(error: KafkaException) -> KafkaError:
    """What is wrong, of an exception of the client library's."""
    found = error.args[0]
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(found))


def error_of(error: KafkaError, what: str = "") -> SourceRefused | SourceUnavailable:
    """The error in our words; `what` it is about comes first."""
    reason = f"{what}: {error.str()}" if what else error.str()
    return SourceRefused(reason) if error.code() in REFUSALS else SourceUnavailable(reason)
