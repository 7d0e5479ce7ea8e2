"""Config and texts: models of all settings, units, YAML."""
