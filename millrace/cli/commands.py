"""Commands: which file each is in, and what it does in a line; in the order in which help shows them."""

from __future__ import annotations

COMMANDS: dict[str, dict[str, str]] = {
    "demo": {
        "demo": "Runs both flows with two consumers, kills one of them with SIGKILL, drains, and counts what arrived.",
    },
    "init": {
        "init": "Writes a flow that runs: flows.yaml, flows.py with its model, and a test. Never overwrites anything.",
    },
    "run": {
        "run": "Runs these flows here: a process for each producer and each consumer; restarts what fails.",
    },
    "services": {
        "produce": "Reads a flow's source and publishes what it yields, until the source ends or SIGTERM comes.",
        "consume": "Takes batches off the lists of these flows and writes them to their sinks, until SIGTERM comes.",
    },
    "check": {
        "check": "Checks the flows file down to each option and import, without running anything.",
        "schema": "Prints the JSON Schema of flows.yaml, for editors.",
    },
    "docs": {
        "docs": "Prints AsyncAPI 3 for the flows: a channel a list, a message a CloudEvents envelope with the model's schema.",
    },
    "dryrun": {
        "test": "Shows what a flow would make of a record and what its sink would write, without source, Redis or sink.",
    },
    "status": {
        "status": "Shows for each flow what is ready, in flight, dead and delivered, and how old the oldest record is.",
    },
    "pause": {
        "pause": "Has these flows stand still, wherever their services run and whenever they start, until `millrace resume`.",
        "resume": "Has these flows go on.",
    },
    "purge": {
        "purge": "Takes what waits on a flow's list off it: as many records as it says, the oldest first.",
        "requeue": "Takes a batch in flight away from whoever holds it, and puts its records on the list again, to be taken next.",
    },
    "repartition": {
        "repartition": "Keeps a flow in as many lists as its `queue.partitions` says now, once it has been drained.",
    },
    "audit": {
        "audit": "Shows what people changed of these flows, or of all, newest first: who, what, when, and of how many records.",
    },
    "top": {
        "top": "Shows all flows and their consumers as they work: what waits and for how long, rates, who writes, what is wrong.",
    },
    "ui": {
        "ui": "Serves a page that shows all flows live, and what is to be done about them: dead letters, variants.",
    },
    "tap": {
        "tap": "Shows records as they pass, until Ctrl-C: a sample, where there are many, and says of how many.",
    },
    "where": {
        "where": "Tells where the record of a key is: ready, in flight, dead, set aside as a variant, or in which file or table.",
    },
    "history": {
        "history": "Shows what was published, delivered, filtered and set aside in each minute, hour or day, and what waited then.",
    },
    "verify": {
        "verify": "Proves for each flow that every published record is accounted for, at one instant.",
    },
    "chaos": {
        "chaos": "Kills producers, consumers and Redis with SIGKILL at random, heals, drains, and counts every record.",
    },
    "access": {
        "access": "Makes a user of Redis and a password for each flow's producer and consumer, for `millrace render`.",
    },
    "scaler": {
        "scaler": "Tells how many consumers each flow should have: `GET /scale/FLOW`, /metrics, and KEDA's gRPC. Changes nothing.",
    },
    "autoscale": {
        "autoscale": "Has each of these flows have as many consumers as it takes, until Ctrl-C.",
    },
    "stack": {
        "up": "Starts the stack in Docker, in the background.",
        "down": "Stops the stack and removes its containers; queue and files stay for the next `up`.",
        "scale": "Runs more or fewer replicas of a service; those that go finish or hand back what they hold.",
        "logs": "Prints what the services say.",
        "ps": "Lists the containers of the stack and how they are.",
    },
}
"""The commands of each file, with the first paragraph of their docstrings, so that help need not import them."""

GROUPS: dict[str, str] = {
    "dead": "Dead letters: look at them, put them back, mend or drop them.",
    "crawl": "Crawls that many spiders share: how they stand, more to fetch, what was set aside.",
    "variants": "Variants: records that a flow's contract set aside (docs/flows.md).",
    "checkpoint": "Checkpoints: where a flow's source is read from, and having it read from elsewhere.",
    "alerts": "Alerts: what flows.yaml says is to be told, and how it stands. `millrace alerts [FLOW]` lists them.",
    "lake": "Delta tables and Parquet: make few files of many, and remove what nobody needs.",
    "render": "Prints what runs the flows' services on an engine: Docker Compose, Docker Swarm, Kubernetes.",
}
"""Files that are a command with commands of its own."""
