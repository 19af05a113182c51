"""Sources: where records are read from.

Adding one is a file here, a line in this table, a test file that runs the source contract, and a page in
`docs/sources/`.
"""

SOURCES: dict[str, str] = {
    "files": "producer.sources.files:FilesSource",
    "kafka": "producer.sources.kafka:KafkaSource",
    "python": "producer.sources.python:PythonSource",
    "redis": "producer.sources.redis:RedisSource",
    "rest": "producer.sources.rest:RestSource",
    "schedule": "producer.sources.schedule:ScheduleSource",
    "scrapy": "producer.sources.scrapy:ScrapySource",
    "sqs": "producer.sources.sqs:SqsSource",
    "sse": "producer.sources.sse:SseSource",
    "stdin": "producer.sources.stdin:StdinSource",
    "websocket": "producer.sources.websocket:WebsocketSource",
}
"""The class of each `type`, as a dotted path: imported when a flow uses it."""
