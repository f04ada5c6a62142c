"""When each technique is the first guess: the table that a person chooses by."""

TECHNIQUE_ADVICE = "feature-extraction (little data), lora (moderate data), full (much data), qlora (little memory)"
