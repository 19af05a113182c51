"""`python -m pipeline.cli`: the `millrace` command of this very interpreter."""

from pipeline.cli import main

main()
