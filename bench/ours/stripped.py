"""`millrace consume` without books, leases and fencing: what a claim and an ack would cost if they only moved records.

    python -m bench.ours.stripped FOLDER COUNT

The service is the same to the last line, but the scripts that Redis is given do nothing but cut a slice off the list
and drop it. Nothing counts what was delivered, so it says itself when it has acked COUNT.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peers.stopwatch import mark
from millrace.cli import main
from millrace_pipeline.queue import Claim, Leases
from millrace_pipeline.redis.scripts import SCRIPTS

STRIPPED = {
    "claim": b"""#!lua flags=allow-oom
local ready, woken, batch = KEYS[1], KEYS[2], KEYS[7]
while redis.call('LMOVE', woken, ready, 'LEFT', 'RIGHT') do end
local records = math.min(tonumber(ARGV[4]), redis.call('LLEN', ready))
if records == 0 then
  return {0, 0}
end
redis.call('SORT', ready, 'BY', 'nosort', 'DESC', 'LIMIT', 0, records, 'STORE', batch)
redis.call('LTRIM', ready, 0, -(records + 1))
return {records, 0}
""",
    "begin": b"""#!lua flags=allow-oom
return 1
""",
    "history": b"""#!lua flags=allow-oom
return 1000000
""",
    "ack": b"""#!lua flags=allow-oom
for i = 6, 5 + tonumber(ARGV[8]) do
  redis.call('UNLINK', KEYS[i])
end
return 1
""",
}


def strip(folder: Path, count: int) -> None:
    """Takes out what the measurement is about."""
    if unknown := STRIPPED.keys() - SCRIPTS.keys():
        raise SystemExit(f"no scripts {unknown}: what is stripped has changed")
    SCRIPTS.update(STRIPPED)
    ack = Leases.ack
    acked = 0

    def counted(self: Leases, claim: Claim, **accounts: object) -> None:
        nonlocal acked
        ack(self, claim, **accounts)  # type: ignore[arg-type]
        acked += len(claim.lines)
        if acked >= count:
            mark(folder, "ended")

    Leases.ack = counted  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    strip(Path(sys.argv[1]), int(sys.argv[2]))
    sys.argv[1:] = ["consume"]
    main()
