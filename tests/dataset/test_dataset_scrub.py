from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dataset_support import METADATA, message, row, trajectory, write_replay
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentperf.core.errors import DatasetError
from pytest_agentperf.dataset import ReplayDataset, write_dataset
from pytest_agentperf.dataset.exports import write_replay as export_replay
from pytest_agentperf.dataset.scrub import ScrubbedSource, TextScrubber
from pytest_agentperf.dataset.scrub_patterns import RULES
from pytest_agentperf.dataset.scrub_placeholders import Placeholders

if TYPE_CHECKING:
    from pytest_agentperf.core.trajectory import Trajectory

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "trajectories"
KEY = b"k" * 32
# Put together here, so that nothing in this file looks like a key to those who search for leaked ones.
RANDOM = "a8Fk2mQ9xZ7bL4vT1cN6"
MORE = RANDOM + "sR3pW5yD0eH8jU2gK7i"
HEX = "3f9a1c7e5b2d8046"
SECRETS = {
    "anthropic": "sk-" + "ant-api03-" + MORE,
    "openai": "sk-" + "proj-" + MORE,
    "deepseek": "sk-" + HEX * 2,
    "google": "AI" + "za" + MORE[:35],
    "aws": "AK" + "IA" + "QX7LMN2PZR5TVW3Y",
    "github": "gh" + "p_" + MORE[:36],
    "github fine": "github_" + "pat_" + MORE,
    "gitlab": "gl" + "pat-" + RANDOM,
    "slack": "xo" + "xb-" + "2048576193-" + RANDOM,
    "hugging face": "hf" + "_" + MORE[:34],
    "groq": "gs" + "k_" + MORE,
    "stripe": "sk" + "_live_" + RANDOM,
    "npm": "np" + "m_" + MORE[:36],
    "web token": "ey" + "J" + RANDOM + ".ey" + "J" + MORE + "." + MORE,
}


def scrubbed(text: str) -> str:
    scrubber = TextScrubber(Placeholders(KEY))
    scrubber.learn(text)
    return scrubber.scrub(text)


class Held:
    name = "held"
    digest = "0" * 64

    def __init__(self, *held: Trajectory) -> None:
        self._held = {one.id: one for one in held}

    def ids(self) -> list[str]:
        return sorted(self._held)

    def load(self, trajectory_id: str) -> Trajectory:
        return self._held[trajectory_id]


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize(
    "around", ["{}", "key={} ", '"{}"', "a\n{}\nb", r'{{"t": "x\n{}\ty"}}', "({})", "`{}`."]
)
def test_keys_of_providers(kind: str, around: str) -> None:
    secret = SECRETS[kind]
    found = scrubbed(around.format(secret))
    assert secret not in found
    assert secret[8:] not in found
    assert "REDACTED" in found
    assert abs(len(found) - len(around.format(secret))) <= 6
    assert scrubbed(found) == found, "a placeholder is left alone"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://app:hunter2@db/x", "postgres://app:REDACTED¤¤¤¤¤¤@db/x"),
        (f"password = '{RANDOM}'", "password = 'REDACTED¤¤¤¤¤¤¤¤¤¤¤¤'"),
        (f'"api_key": "{RANDOM}",', '"api_key": "REDACTED¤¤¤¤¤¤¤¤¤¤¤¤",'),
        (rf"{{\"client_secret\": \"{RANDOM}\"}}", r"{\"client_secret\": \"REDACTED¤¤¤¤¤¤¤¤¤¤¤¤\"}"),
        (f"export DB_PASSWORD={RANDOM}\n", "export DB_PASSWORD=REDACTED¤¤¤¤¤¤¤¤¤¤¤¤\n"),
        (f"token: {RANDOM}.", "token: REDACTED¤¤¤¤¤¤¤¤¤¤¤¤¤"),
        (f"Authorization: Bearer {RANDOM}", "Authorization: Bearer REDACTED¤¤¤¤¤¤¤¤¤¤¤¤"),
        ("mail jo.doe+x@corp.io now", "mail ¤¤¤¤¤¤@example.com now"),
        (r"a\njo@corp.io\nb", r"a\n¤¤¤¤¤¤@example.com\nb"),
        (r"\u003cjo@corp.io\u003e", r"\u003c¤¤¤¤¤¤@example.com\u003e"),
        ("/home/jo/x /home/jo.", "/home/user¤¤¤¤¤/x /home/user¤¤¤¤¤¤"),
        ("/Users/jo.doe/dev", "/Users/user¤¤¤¤¤/dev"),
        (r"C:\Users\Jo\x", r"C:\Users\user¤¤¤¤¤\x"),
        (r"C:\\Users\\Jo\\x", r"C:\\Users\\user¤¤¤¤¤\\x"),
        ("-Users-jo-dev-thing", "-Users-user¤¤¤¤¤-dev-thing"),
        ("jo@thinkpad:~/src$ ls", "user¤¤¤¤¤@host¤¤¤¤¤:~/src$ ls"),
        ("Linux build7 5.15.0-91-generic #1", "Linux host¤¤¤¤¤ 5.15.0-91-generic #1"),
        ("Johns-MacBook-Pro.local up", "host¤¤¤¤¤ up"),
        ("db1.corp and a.b.internal:80", "host¤¤¤¤¤ and host¤¤¤¤¤:80"),
        ("ssh jo@10.1.2.30", "ssh jo@198.1"),
        (r"x\n192.168.1.7:80", r"x\n198.1"),
        ("2a02:8071:81:4300:1c2d::5", "2001:db8::"),
    ],
)
def test_what_is_caught(text: str, expected: str) -> None:
    found = scrubbed(text)
    assert re.match(re.escape(expected).replace("¤", "."), found), found
    assert scrubbed(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "commit 3f9a1c7e5b2d80463f9a1c7e5b2d80463f9a1c7e",
        "id 550e8400-e29b-41d4-a716-446655440000",
        "foo==1.2.3.4 bar>=10.20.30.40 v10.20.30.40 version 21.22.23.24 pkg-1.22.3.40.tar.gz 1.2.3.4",
        "http://localhost:80 127.0.0.1 0.0.0.0 255.255.255.0 ::1 192.0.2.7",
        "jo@example.com git@github.com noreply@anthropic.com a@b.example.org",
        "y = a@b.T + w@x.to(device) @pytest.mark.skip lodash@4.17.21",
        "password = get_password(user1) token=settings.TOKEN2 api_key=os.environ['API_KEY_1']",
        "password: str = None; token = 'your-token-1'; max_tokens=4096, secret=${SECRET_1} token: xxxxxxxx1",
        "sk-learn sk-estimator-doc-link-something-long sklearn-1.2.3-cp311-manylinux_2_17_x86_64",
        "fw_device_config_v2_handler_register_1 sk_learn_model_2_with_names hf_model_config_7b_instruct_v2_chat_hf",
        "threading.local() self.internal = 3; settings.local; import jdk.internal.misc",
        "std::vector a::b dead::beef 12:34:56 2024-01-01T10:20:30",
        "https://user:${PASSWORD}@host/ https://github.com/a/b http://a:80/@x",
        "/home/user/x /home/runner/work /Users/Shared /root",
        "AKIAIOSFODNN7EXAMPLE sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "sha512-q7F1k2mQ9xZ7bL4vT1cN6sR3pW5yD0eH8jU2gK7i==",
        "----- BEGIN of a PRIVATE KEY section -----",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert scrubbed(text) == text


@pytest.mark.parametrize(
    "text", ["sk-" + "proj-{}", "Authorization: Bearer {}", "https://u:{}@h", "ey" + "Ja1b2c3d4.eyJ{}.{}"]
)
def test_long_secrets_are_replaced_whole(text: str) -> None:
    assert RANDOM not in scrubbed(text.replace("{}", RANDOM * 500))


def test_private_keys_keep_their_lines() -> None:
    body = "\n".join(MORE[:32] + f"{i:04}" for i in range(4))
    text = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"
    for given_text in (text, json.dumps(text)):
        found = scrubbed(given_text)
        assert MORE[:12] not in found
        assert len(found) == len(given_text)
        assert found.count("\n") == given_text.count("\n")
        assert "-----END RSA PRIVATE KEY-----" in found
        assert scrubbed(found) == found


def with_calls(*contents: Any) -> Trajectory:
    call = {
        "id": "call_" + RANDOM,
        "type": "function",
        "function": {
            "name": "bash",
            "arguments": json.dumps({"command": f"echo é\ncurl -H 'x-api-key: {SECRETS['anthropic']}'"}),
        },
    }
    said = message("assistant", "", tool_calls=[call], reasoning_content=f"use {SECRETS['anthropic']}")
    results = [
        message("tool", content, tool_call_id="call_" + RANDOM) if isinstance(content, str) else content
        for content in contents
    ]
    one = trajectory("t", tokens=(10,))
    return replace(
        one,
        messages=(*one.messages, said, *results),
        turns=(replace(one.turns[0], message_runs=((0, len(one.messages) + 1 + len(results)),)),),
    )


def test_equal_secrets_have_equal_placeholders_wherever_they_stand() -> None:
    secret = SECRETS["anthropic"]
    source = ScrubbedSource(
        Held(with_calls(f"sent {secret}", {"role": "user", "content": [{"type": "text", "text": secret}]})),
        key=KEY,
    )
    found = source.load("t")
    text = json.dumps(found.messages)
    assert secret not in text
    placeholder = found.messages[-1]["content"][0]["text"]
    assert placeholder.startswith("sk-ant-api03-REDACTED")
    assert text.count(placeholder) == 4
    call = found.messages[-3]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"])["command"].startswith("echo é\ncurl")
    assert call["id"] == found.messages[-2]["tool_call_id"] == "call_" + RANDOM
    assert source.report.totals == {"provider key": 4}
    assert source.load("t") == found
    assert source.report.totals == {"provider key": 4}, "loaded twice, counted once"


def test_a_password_is_known_again_without_its_name() -> None:
    one = with_calls(f"password={RANDOM}", f"logged in with {RANDOM}", f"{RANDOM}x is another")
    source = ScrubbedSource(Held(one), key=KEY)
    found = source.load("t")
    assert found.messages[-3]["content"].split("=")[1] == found.messages[-2]["content"].split()[-1]
    assert found.messages[-1] == one.messages[-1]
    assert "known secret again 1" in "\n".join(source.report.lines())
    assert RANDOM not in "\n".join(source.report.lines())


def test_tool_schemas_are_scrubbed() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "ask jo@corp.io"}}
    source = ScrubbedSource(Held(replace(trajectory(), tool_sets=((tool,),))), key=KEY)
    assert "corp.io" not in json.dumps(source.load("t1").tool_sets)


def test_the_key_decides() -> None:
    held = Held(with_calls("jo@corp.io"))
    one, same, other = (ScrubbedSource(held, key=key) for key in (KEY, KEY, None))
    assert one.load("t") == same.load("t") != other.load("t")
    assert one.digest == same.digest != other.digest
    assert (one.name, list(one.ids())) == ("held", ["t"])


def test_what_was_recorded_besides_is_scrubbed_or_left_out(tmp_path: Path) -> None:
    calls = [{"duration_ms": 12.5, "tool_call_id": "c", "tool_name": "bash", "action": {"x": "jo@corp.io"}}]
    rows = [row(0, recorded_tool_calls_after=calls, messages=[message("user", "jo@corp.io")])]
    replay = ReplayDataset(write_replay(tmp_path / "r", rows))
    source = ScrubbedSource(replay, key=KEY)
    assert source.load("task").recorded is None
    export_replay(source, tmp_path / "out")
    text = (tmp_path / "out" / "traces" / "task.jsonl").read_text()
    assert "corp.io" not in text
    assert text.count("@example.com") == 2
    store = write_dataset(tmp_path / "set", map(source.load_recorded, source.ids()), METADATA)
    assert store.digest == source.digest


def test_deep_nesting_ends_in_one_error() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DatasetError, match="nested too deeply"):
        ScrubbedSource(Held(replace(trajectory(), messages=(message("user", deep),) * 8))).load("t1")


pieces = st.sampled_from(
    [
        *SECRETS.values(),
        "jo@corp.io",
        "/home/jo/x",
        r"C:\Users\jo\x",
        "10.1.2.33",
        f"password={RANDOM}",
        "https://a:b7xkq2@h/",
        "db1.corp",
        "jo@box:~/",
        "\n",
        "\t",
        "\\",
        '"',
        "é",
        " ",
        "n",
        "-----BEGIN PRIVATE KEY-----\n" + MORE + "\n-----END PRIVATE KEY-----",
    ]
)


@given(st.lists(pieces, max_size=8).map("".join), st.booleans())
def test_json_stays_json(text: str, ascii_only: bool) -> None:
    for depth in range(3):
        found = scrubbed(text)
        if depth:
            json.loads(found)
        text = json.dumps({"command": text}, ensure_ascii=ascii_only)


UNITS = (
    "a.", "a@", "1.", "a:", "://a", "://a:b", "eyJ", "eyJa.", "sk-", "sk-a", "password", "password=", "password='",
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "/home/", "/home/a.", "a-", "\\n", "\\", "1.1.1.1", "bearer ",
    "Linux a ", "a.local.", "f:", "-Users-", "AC0", "a_", "xoxb-1", "token:", "1" * 9 + ":AA",
)  # fmt: skip


@pytest.mark.parametrize("rule", range(len(RULES)), ids=lambda i: f"{i}-{RULES[i].kind}")
def test_no_text_makes_a_pattern_slow(rule: int) -> None:
    """Work grows with the text, not with its square: of a quadratic pattern this would take hours."""
    pattern = RULES[rule].pattern
    for unit in UNITS:
        for end in ("", "!"):
            for _ in pattern.finditer(unit * (60_000 // len(unit)) + end):
                pass


def test_a_real_replay_is_scrubbed() -> None:
    if not (DATA / "agentperf_replay").is_dir():
        pytest.skip(f"{DATA} is not there")
    replay = ReplayDataset(DATA / "agentperf_replay")
    source = ScrubbedSource(replay, key=KEY)
    for one in source.ids():
        before, after = replay.load(one), source.load(one)
        assert after.turns == before.turns
        for old, new in zip(before.messages, after.messages, strict=True):
            assert list(old) == list(new)
            for call in new.get("tool_calls") or ():
                json.loads(call["function"]["arguments"])
    assert set(source.report.by_trajectory) == set(source.ids())
