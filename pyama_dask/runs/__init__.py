"""One run, and everything around it: planning, output directory, status, verification, checks before it."""
