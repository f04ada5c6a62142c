"""What a run does otherwise where each word has a tag; the three stages are those of all labelled rows."""
