"""A language model's run: prepare (rows to tokens and marks), learn, finish (scores, answers, report), and its use."""
