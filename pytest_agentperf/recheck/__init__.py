"""Recomputes results from a bundle's raw records: written from METHODOLOGY.md, sharing no code with what made them."""
