"""Sinks: where batches are written to.

Adding one is a file here, a line in this table, a test file that runs the sink contract, and a page in `docs/sinks/`.
"""

SINKS: dict[str, str] = {
    "csv": "millrace_consumer.sinks.csv:CsvSink",
    "delta": "millrace_consumer.sinks.delta:DeltaSink",
    "duckdb": "millrace_consumer.sinks.duckdb:DuckdbSink",
    "http": "millrace_consumer.sinks.http:HttpSink",
    "jsonl": "millrace_consumer.sinks.jsonl:JsonlSink",
    "kafka": "millrace_consumer.sinks.kafka:KafkaSink",
    "null": "millrace_consumer.sinks.null:NullSink",
    "parquet": "millrace_consumer.sinks.parquet:ParquetSink",
    "postgres": "millrace_consumer.sinks.postgres:PostgresSink",
    "python": "millrace_consumer.sinks.python:PythonSink",
    "redis": "millrace_consumer.sinks.redis:RedisSink",
    "sqlite": "millrace_consumer.sinks.sqlite:SqliteSink",
    "sqs": "millrace_consumer.sinks.sqs:SqsSink",
    "stdout": "millrace_consumer.sinks.stdout:StdoutSink",
}
"""The class of each `type`, as a dotted path: imported when a flow uses it, so that no sink pays for another's."""
