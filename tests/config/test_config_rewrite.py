"""Numbers are put into a YAML file's text, and nothing else of it changes."""

from __future__ import annotations

import pytest
import yaml

from pytest_agentperf.config.rewrite import rewritten
from pytest_agentperf.core.errors import ConfigError

TEXT = """\
# A box.
box:
  engine:            # of the box
    base: 1.5        # ms
    flow: {a: 1, b: 2}   # two
other: {base: 7}
"""


def test_values_change_in_place_and_new_ones_are_added() -> None:
    values = {
        ("box", "engine", "base"): 2.25,
        ("box", "engine", "flow", "b"): 30,
        ("box", "engine", "more"): 0.1,
    }
    text = rewritten(TEXT, {**values, ("box", "engine", "flow", "c"): 4}, where="box.yaml")
    assert yaml.safe_load(text) == {
        "box": {"engine": {"base": 2.25, "flow": {"a": 1, "b": 30, "c": 4}, "more": 0.1}},
        "other": {"base": 7},
    }
    for comment in ("# A box.", "# of the box", "# ms", "# two"):
        assert comment in text
    assert rewritten(TEXT, {}, where="box.yaml") == TEXT


def test_a_shared_mapping_is_refused() -> None:
    text = "a: {engine: &one {base: 1}}\nb: {engine: *one}\n"
    with pytest.raises(ConfigError, match="shared with another place"):
        rewritten(text, {("a", "engine", "base"): 2}, where="box.yaml")


def test_no_mapping_there() -> None:
    with pytest.raises(ConfigError, match=r"no mapping at box\.motor"):
        rewritten(TEXT, {("box", "motor", "base"): 2}, where="box.yaml")
