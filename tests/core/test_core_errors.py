from __future__ import annotations

import copy
import pickle

import pytest

from pytest_agentperf.core.errors import AgentPerfError, ConfigError, DatasetError, EndpointError, LoadError
from pytest_agentperf.core.redact import Masked

KINDS = [ConfigError, DatasetError, EndpointError, LoadError]


@pytest.mark.parametrize(
    ("where", "remedy", "text"),
    [
        ("a.yaml", "do this", "a.yaml: it broke\n  → do this"),
        (None, "do this", "it broke\n  → do this"),
        ("a.yaml", None, "a.yaml: it broke"),
        (None, None, "it broke"),
    ],
)
def test_the_text_says_where_what_and_what_to_do(where: str | None, remedy: str | None, text: str) -> None:
    assert str(AgentPerfError("it broke", where=where, remedy=remedy)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_the_root(kind: type[AgentPerfError]) -> None:
    with pytest.raises(AgentPerfError, match="it broke"):
        raise kind("it broke")


@pytest.mark.parametrize("kind", [AgentPerfError, *KINDS])
@pytest.mark.parametrize(("where", "remedy"), [("w", "r"), (None, "r"), (None, None)])
def test_errors_cross_process_borders_whole(
    kind: type[AgentPerfError], where: str | None, remedy: str | None
) -> None:
    error = kind("what", where=where, remedy=remedy)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (twin.what, twin.where, twin.remedy, str(twin)) == ("what", where, remedy, str(error))


def test_secrets_are_masked_in_tracebacks() -> None:
    masked = Masked({"Authorization": "sk-12345"})
    assert "sk-12345" not in repr(masked)
    assert dict(masked) == {"Authorization": "sk-12345"}
