"""examples/quotes-postgres, run as its page says, on a real server."""

from __future__ import annotations

import shutil
from pathlib import Path

from millrace.practice.site import PracticeSite
from tests.postgres_server import PostgresServer
from tests.services import Place

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "quotes-postgres"


def test_a_second_crawl_leaves_one_row_a_quote(place: Place, postgres: PostgresServer) -> None:
    shutil.copytree(EXAMPLE, place.folder, dirs_exist_ok=True)
    with postgres.session() as session:
        session.execute("CREATE ROLE crawler LOGIN PASSWORD 's3cret'")
        session.execute("CREATE DATABASE example OWNER crawler")
    dsn = f"postgresql://crawler:s3cret@127.0.0.1:{postgres.port}/example"
    with PracticeSite() as site:
        quotes = [tuple(quote.values()) for quote in site.quotes]
        for _ in range(2):
            run = place.start("run", "--until-empty", REDIS_URL="", QUOTES_URL=site.url, QUOTES_DSN=dsn, LINGER="200ms")
            assert run.wait() == 0, run.said
            assert "s3cret" not in run.said
    with postgres.session("example") as session:
        assert sorted(session.execute("SELECT text, author, tags, url FROM quotes").fetchall()) == sorted(quotes)
        assert session.execute("SELECT sum(records) FROM millrace_ledger").fetchall() == [(200,)]
