"""The settings of Millrace's own Scrapy project: a polite crawler whose items go to Redis.

https://docs.scrapy.org/en/latest/topics/settings.html lists them all; `-s NAME=VALUE` overrides one for a crawl.
"""

from importlib.metadata import version

import scrapy

BOT_NAME = "millrace"
SPIDER_MODULES = ["millrace_producer.spiders"]
NEWSPIDER_MODULE = "millrace_producer.spiders"

# Where items go: appended to this Redis list, on the server that REDIS_URL (setting or environment) names,
# or else the embedded Valkey of the flows here.
ITEM_PIPELINES = {"millrace.scrapy.RedisPipeline": 900}
MILLRACE_KEY = "DATA-PIPELINE-KEY"

# Manners: say who is calling, keep to robots.txt, one page at a time, and slower when the site is slow. AutoThrottle
# starts at half a second and then follows the site's latency, never below DOWNLOAD_DELAY.
USER_AGENT = f"Millrace/{version('millrace')} (data pipeline; Scrapy/{scrapy.__version__})"
ROBOTSTXT_OBEY = True
CONCURRENT_REQUESTS_PER_DOMAIN = 1
DOWNLOAD_DELAY = 0.1
AUTOTHROTTLE_ENABLED = True
AUTOTHROTTLE_START_DELAY = 0.5
AUTOTHROTTLE_MAX_DELAY = 30
RETRY_TIMES = 5
DOWNLOAD_TIMEOUT = 60

# A redirect to another host leads to public addresses only; MILLRACE_ALLOW_PRIVATE = True lets it lead anywhere.
DOWNLOADER_MIDDLEWARES = {"millrace_producer.middlewares.PublicRedirects": 50}

# Nothing listens: no telnet console, no remote control.
TELNETCONSOLE_ENABLED = False
REMOTE_CONTROL_ENABLED = False

LOG_LEVEL = "INFO"
TWISTED_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
FEED_EXPORT_ENCODING = "utf-8"
