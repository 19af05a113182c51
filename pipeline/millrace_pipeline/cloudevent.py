"""What other producers of CloudEvents do that we don't: data as base64, of a type of its own.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#31-handling-of-data
"""

from __future__ import annotations

import base64
import binascii

from millrace_pipeline.errors import EnvelopeError


def is_json(datacontenttype: str) -> bool:
    """True where the media type's subtype is `json` or ends in `+json`, in whatever case and with any parameters."""
    subtype = datacontenttype.partition(";")[0].strip().partition("/")[2].casefold()
    return subtype == "json" or subtype.endswith("+json")


def from_base64(text: str) -> bytes:
    """The bytes that `data_base64` stands for. Raises EnvelopeError where it is not base64 (RFC 4648, padded)."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"data_base64 is not base64: {error}") from error
