"""`python -m millrace`: the `millrace` command of this very interpreter."""

from millrace.cli import main

main()
