"""Sources: where records are read from.

Adding one is a file here, a line in this table, a test file that runs the source contract, and a page in
`docs/sources/`; `make tables` writes those of the docs anew.
"""

SOURCES: dict[str, str] = {
    "scrapy": "millrace_producer.sources.scrapy:ScrapySource",
    "sse": "millrace_producer.sources.sse:SseSource",
    "websocket": "millrace_producer.sources.websocket:WebsocketSource",
    "rest": "millrace_producer.sources.rest:RestSource",
    "schedule": "millrace_producer.sources.schedule:ScheduleSource",
    "files": "millrace_producer.sources.files:FilesSource",
    "stdin": "millrace_producer.sources.stdin:StdinSource",
    "kafka": "millrace_producer.sources.kafka:KafkaSource",
    "sqs": "millrace_producer.sources.sqs:SqsSource",
    "redis": "millrace_producer.sources.redis:RedisSource",
    "external": "millrace_producer.sources.external:ExternalSource",
    "python": "millrace_producer.sources.python:PythonSource",
}
"""The class of each `type`, in the order of the docs, as a dotted path: imported when a flow uses it."""
