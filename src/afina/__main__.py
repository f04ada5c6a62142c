"""`python -m afina` is `afina`."""

from afina.cli import main

main()
