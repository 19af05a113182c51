"""The benchmarks: Millrace and its peers side by side, on the same data and the same server.

    python -m bench --quick          # or `make bench-quick`; docs/how-to/benchmarks.md

`rows/` says what is measured, `peers/` holds those who are measured against, `ours/` the sources and sinks that only a
benchmark needs.
"""
