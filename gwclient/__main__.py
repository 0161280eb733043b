"""`python -m gwclient` is the `gwclient` command."""

from gwclient.cli import main

main()
