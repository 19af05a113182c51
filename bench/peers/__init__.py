"""Those who are measured against. Each is a process: `python -m bench.peers.NAME URL KEY FOLDER …`."""
