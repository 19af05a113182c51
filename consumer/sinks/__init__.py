"""Sinks: where batches are written to.

Adding one is a file here, a line in this table, a test file that runs the sink contract, and a page in `docs/sinks/`.
"""

SINKS: dict[str, str] = {
    "csv": "consumer.sinks.csv:CsvSink",
    "delta": "consumer.sinks.delta:DeltaSink",
    "duckdb": "consumer.sinks.duckdb:DuckdbSink",
    "http": "consumer.sinks.http:HttpSink",
    "jsonl": "consumer.sinks.jsonl:JsonlSink",
    "kafka": "consumer.sinks.kafka:KafkaSink",
    "null": "consumer.sinks.null:NullSink",
    "parquet": "consumer.sinks.parquet:ParquetSink",
    "postgres": "consumer.sinks.postgres:PostgresSink",
    "python": "consumer.sinks.python:PythonSink",
    "redis": "consumer.sinks.redis:RedisSink",
    "sqlite": "consumer.sinks.sqlite:SqliteSink",
    "sqs": "consumer.sinks.sqs:SqsSink",
    "stdout": "consumer.sinks.stdout:StdoutSink",
}
"""The class of each `type`, as a dotted path: imported when a flow uses it, so that no sink pays for another's."""
