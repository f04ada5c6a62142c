"""The names of the files in the folder of a run or of a search."""

from __future__ import annotations

LOCK = ".afina.lock"

# From the beginning.
CONFIG = "config.yaml"
DATA = "data.json"
ORIGIN = "origin.json"
STATUS = "status.json"
HISTORY = "metrics.jsonl"
CHOICE = "choice.json"
"""Of a run that chose its technique."""
BASE = "base.json"
"""What an untouched language model did."""

# At the end.
TASK = "task.json"
PREDICTIONS = "predictions.jsonl"
ROW_SCORES = "row_scores.jsonl"
REASONS = "reasons.json"
ENVIRONMENT = "environment.json"
REPORT = "report.json"
PAGE = "report.html"
CARD = "README.md"

# Of a search.
SEARCH = "search.json"
STUDY = "study.db"

FILES_FROM_THE_BEGINNING = (
    LOCK,
    CONFIG,
    DATA,
    ORIGIN,
    STATUS,
    HISTORY,
    f".{HISTORY}.steps",
    CHOICE,
    BASE,
    "seen_texts.npy",
)

WORK = ".work"
# All that a run or a search may have written before it can be resumed.
BEGINNINGS = {WORK, LOCK, CHOICE, DATA, ORIGIN, STATUS, STUDY, f"{STUDY}-journal"}
# A run that can be resumed lacks these; the other files are there from its beginning.
ENDINGS = (REPORT, TASK, REASONS, ENVIRONMENT)
KEPT_REASONS = "reasons.jsonl"
"""Of the choices so far, in the folder of what only a running run needs."""
