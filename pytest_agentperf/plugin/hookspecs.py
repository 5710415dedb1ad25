"""Hooks that a site's `conftest.py` or plugin may implement.

Registered in every pytest session: the standard library and pytest only at module level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest


def pytest_agentperf_power_readers(config: pytest.Config) -> Mapping[str, str]:  # type: ignore[empty-body]
    """Offer power meters of one's own: a name each, and where its reader is made, as `module:factory`.

    A system file asks for one with `power: {source: plugin, reader: NAME, options: {…}}`. The factory is called with
    the options as keywords, in the sampler's own process, which imports the module by name: it must lie in an
    installed package, or beside the `conftest.py` (where pytest puts the folder on `sys.path`), not in it. It
    returns a `pytest_agentperf.power.reader.PowerReader`.
    """
