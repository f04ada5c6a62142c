"""A run from its description to its report, in three stages: prepare, learn, finish."""
