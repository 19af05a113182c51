"""Sinks: where batches are written to.

Adding one is a file here, a line in this table, a test file that runs the sink contract, and a page in `docs/sinks/`;
`make tables` writes the tables of the docs anew, from what the classes say of themselves.
"""

SINKS: dict[str, str] = {
    "jsonl": "millrace_consumer.sinks.jsonl:JsonlSink",
    "csv": "millrace_consumer.sinks.csv:CsvSink",
    "parquet": "millrace_consumer.sinks.parquet:ParquetSink",
    "postgres": "millrace_consumer.sinks.postgres:PostgresSink",
    "sqlite": "millrace_consumer.sinks.sqlite:SqliteSink",
    "duckdb": "millrace_consumer.sinks.duckdb:DuckdbSink",
    "delta": "millrace_consumer.sinks.delta:DeltaSink",
    "kafka": "millrace_consumer.sinks.kafka:KafkaSink",
    "redis": "millrace_consumer.sinks.redis:RedisSink",
    "sqs": "millrace_consumer.sinks.sqs:SqsSink",
    "http": "millrace_consumer.sinks.http:HttpSink",
    "python": "millrace_consumer.sinks.python:PythonSink",
    "stdout": "millrace_consumer.sinks.stdout:StdoutSink",
    "null": "millrace_consumer.sinks.null:NullSink",
}
"""The class of each `type`, in the order of the docs, as a dotted path: imported when a flow uses it.

So no sink pays for another's libraries.
"""
