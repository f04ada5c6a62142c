"""The parts of a search that need no model: budget, space of settings, study, verdict."""
