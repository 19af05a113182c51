"""A Scrapy crawl that many spiders share: its requests are in Redis, and a page is settled in one step."""
