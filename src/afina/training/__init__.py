"""The loop and what it stands on: steps, optimizer, precision, checkpoints, events."""
