"""`python -m pipeline.observe.probe [/readyz]`: asks the service in this container how it is; exit 0 when well.

Small on purpose: Docker runs it every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    port = os.environ.get("MILLRACE_HTTP", "").rpartition(":")[2] or "9090"
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=3)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(answer.read(500).decode())
    except OSError as error:
        sys.stdout.write(f"no answer on port {port}: {error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
