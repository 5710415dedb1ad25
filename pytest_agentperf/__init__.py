"""Measure how many coding agents an inference system serves at once, as pytest tests.

Deliberately empty but for the version: every pytest start on the machine imports this package.
"""

__version__ = "0.1.0"
