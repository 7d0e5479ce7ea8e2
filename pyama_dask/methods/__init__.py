"""Methods that a config names: registry, entry points, optional packages, and how they are called."""
