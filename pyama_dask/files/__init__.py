"""Files that are either complete or absent, checksums, manifests, CSV text, standard streams."""
