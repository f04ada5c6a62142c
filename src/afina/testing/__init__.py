"""Tiny real models, a byte tokenizer and small labelled sets, built on the spot: for tests and for reports of
bugs.

`afina.testing.models` needs torch and transformers; `afina.testing.data` needs nothing.
"""
