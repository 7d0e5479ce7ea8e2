"""Movies of many files: which file holds which plane, and one reader for all their formats."""
