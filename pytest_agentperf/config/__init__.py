"""YAML and flags → validated, frozen models; every error names file, line and remedy."""
