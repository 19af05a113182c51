"""Sources: where records are read from.

Adding one is a file here, a line in this table, a test file that runs the source contract, and a page in
`docs/sources/`.
"""

SOURCES: dict[str, str] = {
    "files": "millrace_producer.sources.files:FilesSource",
    "kafka": "millrace_producer.sources.kafka:KafkaSource",
    "python": "millrace_producer.sources.python:PythonSource",
    "redis": "millrace_producer.sources.redis:RedisSource",
    "rest": "millrace_producer.sources.rest:RestSource",
    "schedule": "millrace_producer.sources.schedule:ScheduleSource",
    "scrapy": "millrace_producer.sources.scrapy:ScrapySource",
    "sqs": "millrace_producer.sources.sqs:SqsSource",
    "sse": "millrace_producer.sources.sse:SseSource",
    "stdin": "millrace_producer.sources.stdin:StdinSource",
    "websocket": "millrace_producer.sources.websocket:WebsocketSource",
}
"""The class of each `type`, as a dotted path: imported when a flow uses it."""
