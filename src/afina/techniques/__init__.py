"""How it is learned: which weights move, how the model is stored, saved, restored and merged."""
