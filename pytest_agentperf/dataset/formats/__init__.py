"""Readers of foreign recording formats, one module each; every reader is a `core.ports.TrajectorySource`."""
