"""Probe: asks the service in this container how it is; exit 0 when it is well.

    python -m millrace_pipeline.process.probe [/readyz]

Small on purpose: Docker runs it every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys

from millrace_pipeline.process.listening import own_addresses, places_in, within


def main() -> int:
    path = sys.argv[1] if len(sys.argv) > 1 else "/readyz"
    host, port = places_in(os.environ.get("MILLRACE_HTTP") or "9090")[0]
    address = next(map(within, own_addresses(host)), None)
    if address is None:
        sys.stdout.write(f"MILLRACE_HTTP: {host} stands for no address of this machine\n")
        return 1
    connection = http.client.HTTPConnection(address, port, timeout=3)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(answer.read(500).decode())
    except OSError as error:
        sys.stdout.write(f"no answer at {address}, port {port}: {error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
