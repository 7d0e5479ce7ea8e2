"""Ready plugins: thin wrappers around methods of other packages, which are imported only when called."""
