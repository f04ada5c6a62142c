"""The command line: one file a verb, each of which parses, calls `afina.api` and prints.

Nothing heavier than typer is imported before a verb runs, so that help comes at once.
"""

from afina.cli.app import main

__all__ = ["main"]
