"""Methods named in a config: registry, entry points, optional packages, and calling them."""
