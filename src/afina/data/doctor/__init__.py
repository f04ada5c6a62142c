"""The data doctor: what is wrong with the rows, each kind of finding in a module of its own.

`subject.py` is what is looked at, `check.py` the form of a check, `registry.py` the list of them, `finding.py` what
they give, `examine.py` the round of all checks; `fix.py`, `rewrite.py` and `copy.py` make the cleaned copy.
"""
