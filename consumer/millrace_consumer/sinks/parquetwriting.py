"""Parquet writing: what Arrow is told of how to write; docs/decisions/0017-library-defaults.md says why."""

from __future__ import annotations

from typing import Any

WRITING: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "use_dictionary": True,
    "write_statistics": True,
    "write_page_checksum": True,
    "write_page_index": False,
    "store_schema": True,
    "use_compliant_nested_type": True,
    "use_deprecated_int96_timestamps": False,
    "write_time_adjusted_to_utc": False,
    "store_decimal_as_integer": False,
    "use_byte_stream_split": False,
    "use_content_defined_chunking": False,
    "flavor": None,
}
