"""From the user's file to checked, labelled and split examples. No torch here: pyarrow and numpy only."""
