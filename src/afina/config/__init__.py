"""The description of a run, how it is read, and how `auto` becomes a value with a reason."""
