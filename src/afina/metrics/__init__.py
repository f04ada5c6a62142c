"""Scores, intervals and tables from predictions and labels; a leaf package that imports nothing of afina."""
