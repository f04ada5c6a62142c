"""From a reference to a checked folder, and what that folder holds."""
