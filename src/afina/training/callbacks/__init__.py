"""Listeners of the loop, one a file."""
