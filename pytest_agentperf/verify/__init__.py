"""Checks of what the server says."""
