"""What every real recording holds, counted by the plainest means: the check on all readers.

Standard library only, nothing of the package. `count(path)` gives requests, their recorded token counts, and
their tool calls with durations, or why the file holds no requests. A request counts if the model answered it and its
history begins in the recording.

    python tests/dataset/plain_counts.py DIR
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = Any


class Refused(Exception):
    """The file holds no requests, or none that can be told apart."""


@dataclass
class Counts:
    tokens: list[tuple[int | None, int | None]] = field(default_factory=list)
    """(prompt, output) of every request; None where not recorded, or not to be trusted."""
    calls: list[tuple[str, float | None]] = field(default_factory=list)
    """(tool, milliseconds) of every call."""
    models: set[str] = field(default_factory=set)
    sessions: int = 1
    """-1 where the format does not say."""
    calls_known: bool = True
    """Whether the format tells which tools were called."""

    @property
    def requests(self) -> int:
        return len(self.tokens)


def recordings(data: Path) -> list[Path]:
    """Return every recording below `data`: a file, or a folder that is one recording."""
    whole = {p.parent for p in data.rglob("base_state.json")}
    whole |= {p.parent for p in data.rglob("sessions.json")}
    whole |= {p.parent for p in data.rglob("manifest.json")}
    files = (p for p in data.rglob("*") if p.is_file() and not whole & set(p.parents))
    return sorted([*whole, *files])


def count(path: Path) -> Counts:
    """Count one recording by the folder it lies in; raises Refused."""
    for folder in (path.name, path.parent.name, path.parent.parent.name):
        if folder in _COUNTERS:
            counts = _COUNTERS[folder](path)
            if not counts.tokens:
                raise Refused("no request was answered")
            return counts
    raise KeyError(path)


def _load(path: Path) -> Json:
    return json.loads(path.read_bytes().decode("utf-8"))


def _after(start_ms: float, end_ms: float) -> float | None:
    # A clock that was set back measures nothing.
    return end_ms - start_ms if end_ms >= start_ms else None


def _text_calls(text: str) -> list[str]:
    """Return the tools of an answer whose calls are text: XML functions, shell blocks, an agent's own commands."""
    if named := re.findall(r"<function=(\w+)>", text):
        return list(named)
    if re.search(r"```(mswea_bash_command|bash)\n", text):
        return ["bash"]
    commands = re.findall(r"```\n(\w+)", text)
    return commands[-1:]


def _rows(path: Path) -> list[Json]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _dicts(path: Path) -> list[dict[str, Json]]:
    return [row for row in _rows(path) if isinstance(row, dict)]


def _time_ms(text: str) -> float:
    # Python takes no nanoseconds.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp() * 1e3


def _agentperf_replay(path: Path) -> Counts:
    counts = Counts(sessions=0)
    for task in _load(path / "manifest.json")["tasks"]:
        counts.sessions += 1
        for row in _rows(path / task["trace"]):
            output = row.get("recorded_completion_tokens")
            counts.tokens.append(
                (row.get("recorded_prompt_tokens"), row["target_output_tokens"] if output is None else output)
            )
            counts.calls += [
                (call["tool_name"], call["duration_ms"]) for call in row["recorded_tool_calls_after"]
            ]
    return counts


def _mini_swe_agent(path: Path) -> Counts:
    document = _load(path)
    counts = Counts()
    messages = document if isinstance(document, list) else document["messages"]
    if isinstance(document, dict):
        counts.models.add(document["info"]["config"]["model"]["model_name"])
    started: dict[str, int] = {}
    last_ms: float | None = None
    for message in messages:
        extra = message.get("extra") or {}
        now_ms = extra["timestamp"] * 1e3 if "timestamp" in extra else None
        if message["role"] == "assistant":
            usage = extra.get("response", {}).get("usage", {})
            counts.tokens.append((usage.get("prompt_tokens"), usage.get("completion_tokens")))
            calls = message.get("tool_calls") or []
            for call in calls:
                started[call["id"]] = len(counts.calls)
                counts.calls.append((call["function"]["name"], None))
            if not calls:
                counts.calls += [(name, None) for name in _text_calls(message["content"])]
        elif message["role"] == "tool" and now_ms is not None and last_ms is not None:
            place = started[message["tool_call_id"]]
            counts.calls[place] = (counts.calls[place][0], _after(last_ms, now_ms))
        last_ms = now_ms
    return counts


def _swe_agent(path: Path) -> Counts:
    document = _load(path)
    counts = Counts()
    config = document.get("replay_config") or {}
    config = json.loads(config) if isinstance(config, str) else config
    model = config.get("agent", {}).get("model", {}).get("name")
    if model and model != "replay":
        counts.models.add(model)
    answers = [m for m in document["history"] if m["role"] == "assistant" and not m.get("is_demo")]
    steps = document.get("trajectory") or [{}] * len(answers)
    for answer, step in zip(answers, steps, strict=True):
        counts.tokens.append((None, None))
        seconds = step.get("execution_time")
        named = [call["function"]["name"] for call in answer.get("tool_calls") or []]
        words = (step.get("action") or answer.get("action") or "").split()
        for name in named or words[:1]:
            counts.calls.append((name, None if seconds is None else seconds * 1e3))
    return counts


def _opencode_sessions(path: Path) -> Iterator[tuple[dict[str, Json], list[dict[str, Json]]]]:
    """Yield (message, its parts) of all messages."""
    if path.is_dir():
        messages = {row["id"]: json.loads(row["data"]) | row for row in _load(path / "messages.json")}
        parts = [json.loads(row["data"]) | row for row in _load(path / "parts.json")]
        for name, message in messages.items():
            session = {"sessionID": message["session_id"]}
            yield message | session, [part for part in parts if part["message_id"] == name]
        return
    document = _load(path)
    entries = document["messages"] if isinstance(document, dict) else document
    if "parts" in entries[0]:
        for entry in entries:
            yield entry["info"], entry["parts"]
        return
    infos: dict[str, dict[str, Json]] = {}
    last: dict[str, dict[str, Json]] = {}
    for event in document:
        if event["type"] == "message.updated":
            infos[event["properties"]["info"]["id"]] = event["properties"]["info"]
        elif event["type"] == "message.part.updated":
            last[event["properties"]["part"]["id"]] = event["properties"]["part"]
    for name, info in infos.items():
        yield info, [part for part in last.values() if part["messageID"] == name]


def _opencode(path: Path) -> Counts:
    counts = Counts()
    sessions = set()
    events = _load(path) if path.is_file() else []
    humans = (
        {event["properties"]["callID"] for event in events if event.get("type") == "permission.updated"}
        if isinstance(events, list)
        else set()
    )
    begun = set()
    for message, parts in _opencode_sessions(path):
        if message["role"] == "user":
            begun.add(message["sessionID"])
        kinds = [part["type"] for part in parts]
        # One request is one step; an answer that was cut has no end of it.
        if message["role"] != "assistant" or "step-start" not in kinds or "step-finish" not in kinds:
            continue
        if message["sessionID"] not in begun:
            continue
        sessions.add(message["sessionID"])
        counts.models.add(message["modelID"])
        tokens = message["tokens"]
        cached = tokens["cache"]["read"]
        prompt = tokens["input"] + cached + tokens["cache"]["write"]
        output = tokens["output"] + tokens["reasoning"]
        # Without a total it is open whether a larger input already holds the cached part.
        ambiguous = "total" not in tokens and 0 < cached <= tokens["input"]
        # A provider that reports nothing: zeros.
        counts.tokens.append((None if ambiguous or not prompt else prompt, output or None))
        for part in parts:
            if part["type"] == "tool":
                time = part["state"].get("time", {})
                ended = None if part["callID"] in humans else time.get("end")
                counts.calls.append((part["tool"], None if ended is None else ended - time["start"]))
    counts.sessions = len(sessions)
    return counts


def _claude_code(path: Path) -> Counts:
    counts = Counts()
    rows = _dicts(path)
    branch = all(row.get("isSidechain") for row in rows)
    known = {row.get("uuid") for row in rows}
    prompts: dict[str, int] = {}
    started: dict[str, tuple[int, float]] = {}
    for row in rows:
        message = row.get("message")
        if not isinstance(message, dict) or (row.get("isSidechain") and not branch):
            continue
        if row.get("parentUuid") and row["parentUuid"] not in known:
            continue
        content = message.get("content")
        blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
        if row["type"] == "assistant":
            usage = message["usage"]
            keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            # One answer is several rows with one id; output counts are those at its beginning.
            prompts.setdefault(message["id"], sum(usage.get(key) or 0 for key in keys))
            counts.models.add(message["model"])
        for block in blocks:
            if block["type"] == "tool_use":
                started[block["id"]] = (len(counts.calls), _time_ms(row["timestamp"]))
                counts.calls.append((block["name"], None))
            elif block["type"] == "tool_result" and block["tool_use_id"] in started:
                place, start_ms = started[block["tool_use_id"]]
                counts.calls[place] = (counts.calls[place][0], _time_ms(row["timestamp"]) - start_ms)
    counts.tokens = [(prompt, None) for prompt in prompts.values()]
    return counts


def _codex(path: Path) -> Counts:
    rows = _rows(path)
    if "payload" not in rows[0]:
        raise Refused("a log of the terminal's events, not a rollout")
    counts = Counts()
    seen: set[int] = set()
    started: dict[str, tuple[int, float]] = {}
    for row in rows:
        payload = row["payload"]
        if row["type"] == "turn_context":
            counts.models.add(payload["model"])
        kind = payload.get("type")
        if kind == "token_count" and payload["info"]:
            total = payload["info"]["total_token_usage"]["total_tokens"]
            if total not in seen:
                seen.add(total)
                last = payload["info"]["last_token_usage"]
                counts.tokens.append((last["input_tokens"], last["output_tokens"]))
        elif kind == "function_call":
            started[payload["call_id"]] = (len(counts.calls), _time_ms(row["timestamp"]))
            counts.calls.append((payload["name"], None))
        elif kind == "function_call_output":
            place, start_ms = started[payload["call_id"]]
            # Older versions write call and output at one moment, and the duration into the output.
            took_ms = _time_ms(row["timestamp"]) - start_ms or None
            if payload["output"].startswith("{"):
                stated = json.loads(payload["output"]).get("metadata", {}).get("duration_seconds")
                took_ms = took_ms if stated is None else stated * 1e3
            counts.calls[place] = (counts.calls[place][0], took_ms)
    return counts


def _pi(path: Path) -> Counts:
    counts = Counts()
    started: dict[str, int] = {}
    last_ms = 0.0
    for row in _rows(path):
        message = row.get("message")
        if not message:
            continue
        now_ms = _time_ms(row["timestamp"])
        if message["role"] == "assistant" and message["content"]:
            usage = message["usage"]
            prompt = usage["input"] + usage["cacheRead"] + usage["cacheWrite"]
            cut = message["stopReason"] in ("aborted", "error")
            # A cut answer has the count of its beginning, and its calls never ran.
            counts.tokens.append((prompt, None if cut else usage["output"]))
            counts.models.add(message["model"])
            for block in () if cut else message["content"]:
                if block["type"] == "toolCall":
                    started[block["id"]] = len(counts.calls)
                    counts.calls.append((block["name"], None))
        elif message["role"] == "toolResult":
            place = started[message["toolCallId"]]
            counts.calls[place] = (counts.calls[place][0], now_ms - last_ms)
        last_ms = now_ms
    return counts


def _openhands_completion(path: Path) -> Counts:
    response = _load(path)["response"]
    usage = response.get("usage", {})
    counts = Counts(
        [(usage.get("prompt_tokens"), usage.get("completion_tokens"))], models={response["model"]}
    )
    for call in response["choices"][0]["message"]["tool_calls"] or []:
        if call:
            counts.calls.append((call["function"]["name"], None))
    return counts


def _openhands_sdk(path: Path) -> Counts:
    if path.name.startswith(("llm-logs", "nonfncall")):
        return _openhands_completion(path)
    state = _load(path / "base_state.json")
    usages = {
        usage["response_id"]: (usage["prompt_tokens"], usage["completion_tokens"])
        for metrics in state["stats"]["usage_to_metrics"].values()
        for usage in metrics["token_usages"]
    }
    counts = Counts(models={state["agent"]["llm"]["model"]})
    answers: dict[str, None] = {}
    started: dict[str, tuple[int, float]] = {}
    for file in sorted(path.glob("event-*.json")):
        event = _load(file)
        if event.get("llm_response_id"):
            answers[event["llm_response_id"]] = None
        if event["kind"] == "ActionEvent":
            started[event["id"]] = (len(counts.calls), _time_ms(event["timestamp"]))
            counts.calls.append((event["tool_name"], None))
        elif event["kind"] == "ObservationEvent":
            place, start_ms = started[event["action_id"]]
            counts.calls[place] = (counts.calls[place][0], _time_ms(event["timestamp"]) - start_ms)
    counts.tokens = [usages.get(answer, (None, None)) for answer in answers]
    return counts


def _atif(path: Path) -> Counts:
    document = _load(path)
    agent = document["agent"]
    counts = Counts(models={agent.get("model_name") or agent["model"]})
    if any("observation" in step for step in document["steps"] if step["source"] != "agent"):
        # A client wrote the results before the step with their calls: requests are not told apart.
        raise Refused("results of tool calls stand outside the steps that made the calls")
    for step in document["steps"]:
        if step["source"] == "agent":
            metrics = step.get("metrics") or {}
            counts.tokens.append((metrics.get("prompt_tokens"), metrics.get("completion_tokens")))
            calls = step.get("tool_calls") or []
            counts.calls += [(call.get("function_name") or call["name"], None) for call in calls]
    return counts


def _mlperf(path: Path) -> Counts:
    counts = Counts(sessions=0)
    seen = set()
    calls: list[str] = []
    for row in _rows(path):
        seen.add(row["conversation_id"])
        if row["role"] == "assistant":
            counts.tokens.append((None, None))
            calls = [call["function"]["name"] for call in row.get("tool_calls") or []]
            counts.calls += [(name, None) for name in calls]
        elif row["role"] == "tool" and len(calls) == 1:
            # One delay stands for all calls of the row: only a lone call's is its own.
            counts.calls[-1] = (calls[0], row["delay_seconds"] * 1e3)
    counts.sessions = len(seen)
    return counts


def _messages_jsonl(path: Path) -> Counts:
    counts = Counts(sessions=0)
    for row in _rows(path):
        counts.sessions += 1
        if model := row.get("model") or row.get("model_name"):
            counts.models.add(model)
        for message in row.get("messages") or row["trajectory"]:
            if message["role"] in ("assistant", "ai"):
                counts.tokens.append((None, None))
                named = [call["function"]["name"] for call in message.get("tool_calls") or []]
                if "tools" not in row:
                    named = _text_calls(message.get("text") or _flat(message["content"]))
                counts.calls += [(name, None) for name in named]
    return counts


def _flat(content: Json) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _kv_cache_tester(path: Path) -> Counts:
    counts = Counts(sessions=0, calls_known=False)
    waiting = [_load(path)]
    while waiting:
        session = waiting.pop()
        counts.sessions += 1
        for request in session["requests"]:
            if request["type"] == "subagent":
                waiting.append(request)
            else:
                counts.tokens.append((request["in"], request["out"]))
                counts.models.add(request["model"])
    return counts


def _mooncake(path: Path) -> Counts:
    return Counts([(row["input_length"], row["output_length"]) for row in _rows(path)], sessions=-1)


def _azure(path: Path) -> Counts:
    with path.open(newline="") as file:
        rows: list[tuple[int | None, int | None]] = [
            (int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)
        ]
    return Counts(rows, sessions=-1)


def _lmcache(path: Path) -> Counts:
    counts = Counts(sessions=0)
    sessions: dict[str, list[Json]] = {}
    for row in _rows(path):
        sessions.setdefault(row["session_id"], []).append(row)
    for rows in sessions.values():
        counts.sessions += 1
        counts.tokens += [(None, None)] * len(rows)
        # Whether the last command ran, nothing says.
        counts.calls += [(name, None) for row in rows[:-1] for name in _text_calls(row["output"])]
    return counts


def _dynamo(path: Path) -> Counts:
    counts = Counts()
    sessions = set()
    tools: dict[str, tuple[str, float | None]] = {}
    for row in _rows(path):
        event = row["event"]
        if event["event_type"] == "request_end":
            sessions.add(event["agent_context"]["session_id"])
            counts.tokens.append((event["request"]["input_tokens"], event["request"]["output_tokens"]))
            counts.models.add(event["request"]["model"])
        else:
            tool = event["tool"]
            tools[tool["tool_call_id"]] = (tool["tool_class"], tool.get("duration_ms"))
    counts.calls = list(tools.values())
    counts.sessions = len(sessions)
    return counts


def _otel_genai(path: Path) -> Counts:
    counts = Counts()
    seen = set()
    last_end = ""
    for span in _load(path)["spans"]:
        values = span["attributes"]
        # The same answer is recorded twice by some instrumentations.
        name = values.get("gen_ai.response.id", span["span_id"])
        if values.get("gen_ai.operation.name") != "chat" or name in seen:
            continue
        seen.add(name)
        if span["start_time"] < last_end:
            # Requests at one time: how many agents they are, nothing says.
            counts.sessions = -1
        last_end = span["end_time"]
        counts.models.add(values["gen_ai.request.model"])
        counts.tokens.append(
            (values.get("gen_ai.usage.input_tokens"), values.get("gen_ai.usage.output_tokens"))
        )
        for message in json.loads(values.get("gen_ai.output.messages", "[]")):
            counts.calls += [(p["name"], None) for p in message["parts"] if p["type"] == "tool_call"]
    return counts


def _aider(path: Path) -> Counts:
    raise Refused("a chat's text, without what was sent")


_COUNTERS: dict[str, Callable[[Path], Counts]] = {
    "agentperf_replay": _agentperf_replay,
    "agentperf_replay_mini": _agentperf_replay,
    "aider": _aider,
    "atif": _atif,
    "azure": _azure,
    "claude_code": _claude_code,
    "codex": _codex,
    "dynamo": _dynamo,
    "kv_cache_tester": _kv_cache_tester,
    "lmcache_agent": _lmcache,
    "messages_jsonl": _messages_jsonl,
    "mini_swe_agent": _mini_swe_agent,
    "mlperf_agentic": _mlperf,
    "mooncake": _mooncake,
    "opencode": _opencode,
    "openhands": _openhands_sdk,
    "otel_genai": _otel_genai,
    "pi": _pi,
    "swe_agent": _swe_agent,
}


def _line(path: Path) -> str:
    try:
        counts = count(path)
    except Refused as error:
        return f"refused: {error}"
    prompts = [prompt for prompt, _ in counts.tokens if prompt is not None]
    outputs = [output for _, output in counts.tokens if output is not None]
    timed = [ms for _, ms in counts.calls if ms is not None]
    tools = ", ".join(sorted({name for name, _ in counts.calls}))
    return (
        f"{counts.sessions} sessions, {counts.requests} requests, {len(prompts)} prompt counts (sum {sum(prompts)}), "
        f"{len(outputs)} output counts (sum {sum(outputs)}), {len(counts.calls)} calls, {len(timed)} timed "
        f"(sum {sum(timed):.1f} ms), tools [{tools}], models {sorted(counts.models)}"
    )


if __name__ == "__main__":
    for root in map(Path, sys.argv[1:]):
        for recording in recordings(root):
            sys.stdout.write(f"{recording.relative_to(root)}: {_line(recording)}\n")
