"""Transforms: what a flow's functions make of the records of a batch, before the sink sees them.

How a function is called is said by the type hint of its first parameter:

| the hint | it is called | and returns |
|---|---|---|
| none, or another | with a record's data, as Python values of JSON | it, a list of records, or None: leaves it out |
| a pydantic model | with a record as that model | the same |
| `list[…]` | once, with the data of all records | a list of records |
| `pyarrow.Table`, `pandas.DataFrame`, `polars.DataFrame` | once, with all records as a table | the same |

The functions of a flow run in order, each on what the one before it returned. A function should give the same result
for the same record, since a batch whose consumer died is transformed again.

A record that the whole chain leaves as it was keeps the very bytes that were published: a function that only filters
changes no number's spelling.
"""

from millrace_consumer.transforms.chain import Outcome, apply
from millrace_consumer.transforms.concurrent import concurrent
from millrace_consumer.transforms.wikimedia import drop_canaries

__all__ = ["TRANSFORMS", "Outcome", "apply", "concurrent", "drop_canaries"]

TRANSFORMS: dict[str, str] = {
    "cast": "millrace_consumer.transforms.values:Cast",
    "dedupe": "millrace_consumer.transforms.rows:Dedupe",
    "drop": "millrace_consumer.transforms.fields:Drop",
    "envelope": "millrace_consumer.transforms.enveloped:EnvelopeFields",
    "explode": "millrace_consumer.transforms.nesting:Explode",
    "filter": "millrace_consumer.transforms.rows:Filter",
    "flatten": "millrace_consumer.transforms.fields:Flatten",
    "ingest_time": "millrace_consumer.transforms.values:IngestTime",
    "parse_time": "millrace_consumer.transforms.values:ParseTime",
    "redact": "millrace_consumer.transforms.values:Redact",
    "rename": "millrace_consumer.transforms.fields:Rename",
    "sample": "millrace_consumer.transforms.rows:Sample",
    "select": "millrace_consumer.transforms.fields:Select",
    "unnest": "millrace_consumer.transforms.nesting:Unnest",
}
"""The class of each `type`, as a dotted path: imported when a flow uses it."""
