"""Fast forms of hot operations, each equal to a plain one up to rounding, and each with a test that says so."""
