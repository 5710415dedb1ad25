"""What an endpoint says of itself before it is asked for anything: its models, and how long their context is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentperf.core.errors import EndpointError
from pytest_agentperf.deploy.probe import get_json

if TYPE_CHECKING:
    from collections.abc import Mapping

# vLLM, SGLang and the simulator; then gateways.
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")


class Models(NamedTuple):
    """What /v1/models lists; nothing where a server has no such list."""

    names: tuple[str, ...]
    context_tokens: int | None
    """Of the model that was asked for, if it is declared."""


def list_models(url: str, headers: Mapping[str, str], model: str, *, ca_file: str | None = None) -> Models:
    """Ask for the list; raises EndpointError if nobody answers or our key is refused."""
    entries = _entries(get_json(url.rstrip("/") + "/models", headers, ca_file=ca_file))
    context = None
    for entry in entries:
        if entry["id"] == model or len(entries) == 1:
            context = next((n for key in _CONTEXT_KEYS if (n := _count(entry.get(key)))), None)
    if context is None:
        context = _llama_cpp_context(url, headers, ca_file)
    return Models(tuple(entry["id"] for entry in entries), context)


def _entries(document: Any) -> list[dict[str, Any]]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return []
    return [entry for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _llama_cpp_context(url: str, headers: Mapping[str, str], ca_file: str | None) -> int | None:
    """Return the context of one slot; the list of models has only what the model was trained with."""
    try:
        document = get_json(url.rstrip("/").removesuffix("/v1") + "/props", headers, ca_file=ca_file)
    except EndpointError:
        return None
    settings = document.get("default_generation_settings") if isinstance(document, dict) else None
    return _count(settings.get("n_ctx")) if isinstance(settings, dict) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
