from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from config_support import SUITE, SYSTEM

from pytest_agentperf.config.launch import Launch, LaunchEnvironment, port_names, with_ports
from pytest_agentperf.config.run import RunOptions, resolve
from pytest_agentperf.config.system import Deployment, load_system
from pytest_agentperf.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = "      url: http://host:8000/v1\n"


def deployment(
    tmp_path: Path, launch: str, *, endpoint: str = "url: http://127.0.0.1:{port}/v1"
) -> Deployment:
    path = tmp_path / "box.yaml"
    block = "".join(f"      {line}\n" for line in launch.split("\n"))
    path.write_text(SYSTEM.replace(ENDPOINT, f"      {endpoint}\n    launch:\n{block}"), encoding="utf-8")
    return load_system(path).deployments["main"]


def test_a_string_is_split_as_a_shell_would_and_no_more(tmp_path: Path) -> None:
    text = (
        """command: >-\n  vllm serve "my model" --json '{"a": "{port}"}' --port {port} $HOME ~ *.py | tee"""
    )
    launch = deployment(tmp_path, text).launch
    assert launch is not None
    words = (
        "vllm",
        "serve",
        "my model",
        "--json",
        '{"a": "{port}"}',
        "--port",
        "{port}",
        "$HOME",
        "~",
        "*.py",
        "|",
        "tee",
    )
    assert launch.all_processes()["server"].command == words


def test_a_list_is_taken_as_it_is_and_may_name_a_shell(tmp_path: Path) -> None:
    launch = deployment(tmp_path, 'command: [bash, -c, "exec vllm serve $MODEL"]').launch
    assert launch is not None
    assert launch.all_processes()["server"].command == ("bash", "-c", "exec vllm serve $MODEL")


def test_processes_inherit_what_holds_for_all_and_keep_their_order() -> None:
    launch = Launch.model_validate(
        {
            "environment": {"A": "all", "B": "all"},
            "directory": "work",
            "processes": {
                "prefill": {"command": "a", "environment": {"B": "own"}, "log": "prefill.log"},
                "decode": {"command": "b", "directory": "/elsewhere"},
            },
        }
    )
    prefill, decode = launch.all_processes().values()
    assert list(launch.all_processes()) == ["prefill", "decode"]
    assert (prefill.environment, prefill.directory) == ({"A": "all", "B": "own"}, "work")
    assert (decode.environment, decode.directory) == ({"A": "all", "B": "all"}, "/elsewhere")
    assert (prefill.log, decode.log) == ("prefill.log", None)
    assert Launch.model_validate({"command": "a", "log": "a.log"}).all_processes()["server"].log == "a.log"


def test_ports_by_name_and_braces_of_others() -> None:
    text = '{port} {port:kv} {"json": {port}} {other} {port:}'
    assert port_names([text]) == {"", "kv"}
    assert with_ports(text, {"": 1, "kv": 2}) == '1 2 {"json": 1} {other} {port:}'


def test_variables_are_looked_up_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "sk-planted")
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.setenv("EMPTY", "")
    launch = Launch.model_validate(
        {"command": "a", "environment": {"HF_TOKEN": "${PLANTED}", "B": "x ${ABSENT} ${EMPTY}", "C": "$HOME"}}
    )
    environment = LaunchEnvironment.read(launch)
    assert environment.missing == ("ABSENT", "EMPTY")
    assert environment.fill("a-${PLANTED}") == "a-sk-planted"
    assert "sk-planted" not in repr(environment)


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ("restart: true", "give either `command` or `processes`"),
        ("command: a\nprocesses: {b: {command: b}}", "give either `command` or `processes`"),
        ("command: 'vllm \"serve'", "quotes do not match"),
        ("command: ''", "it is empty"),
        ("command: a --api-key sk-planted", "a key on a command line"),
        ("command: [a, --hf-token=sk-planted]", "a key on a command line"),
        ("command: a\nenvironment: {VLLM_API_KEY: sk-planted}", "write ${VLLM_API_KEY}"),
        ("command: a\nenvironment: {A-B: c}", "no name of a variable"),
        ("command: a\nready: health", "a path of the endpoint"),
        ("command: a\nready: //elsewhere/health", "a path of the endpoint"),
        (
            "command: a\nready: 'http://[::1'",
            "`deployments.main.launch.ready`: its host or port is malformed",
        ),
        ("command: a\nready: http://host:sk-planted", "its host or port is malformed"),
        ("command: a\nready: http://me:sk-planted@host/health", "without credentials"),
        (
            "processes: {a: {command: a, ready: 'http://host:99999/'}}",
            "launch.processes.a.ready`: its host or port",
        ),
        ("command: a\nstop_signal: SIGKILL", "stop_signal"),
        ("command: a\nready_deadline_s: 0", "ready_deadline_s"),
        ("processes: {a/b: {command: c}}", "no name for a process"),
        ("command: a\nlog: ''", "give the name of a file"),
        ("command: a\nlog: logs/", "give the name of a file"),
        ("command: a\nlog: ../engine.log", "out of the run's folder for logs"),
        ("log: a.log\nprocesses: {a: {command: a}}", "give each of the `processes` its own"),
        (
            "processes: {a: {command: a, log: x.log}, b: {command: b, log: x.log}}",
            "the log of several processes",
        ),
        ("comand: a", "did you mean `command`"),
    ],
)
def test_mistakes_are_named_with_their_line_and_without_a_key(
    tmp_path: Path, launch: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        deployment(tmp_path, launch)
    assert message in str(caught.value)
    assert "sk-planted" not in str(caught.value)
    # Where the block begins, or in it.
    line = int((caught.value.where or "").rpartition(":")[2])
    assert SYSTEM[: SYSTEM.index(ENDPOINT)].count("\n") < line


def test_places_of_readiness(tmp_path: Path) -> None:
    for ready in ("/health", "http://h:{port:kv}/health?all=1", "https://[fd00::1]:8443/up"):
        launch = deployment(tmp_path, f"command: a\nready: '{ready}'").launch
        assert launch is not None
        assert launch.ready == ready


def test_options_that_only_look_like_keys(tmp_path: Path) -> None:
    assert deployment(
        tmp_path, "command: a --tokenizer b --max-num-batched-tokens 5 --api-key-env KEY"
    ).launch


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [("url_env: BOX_URL", "goes with `endpoint.url`"), ("url: http://127.0.0.1:{port}x/v1", "malformed")],
)
def test_where_the_server_will_be_has_to_be_known(tmp_path: Path, endpoint: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        deployment(tmp_path, "command: a", endpoint=endpoint)
    assert message in str(caught.value)


def test_a_free_port_without_a_launch_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(SYSTEM.replace(":8000", ":{port}"), encoding="utf-8")
    with pytest.raises(ConfigError, match="goes with `launch:` only"):
        load_system(path)


def test_resets_are_refused_unless_the_ruleset_is_changed(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    system = tmp_path / "box.yaml"
    system.write_text(
        SYSTEM.replace(ENDPOINT, ENDPOINT + "    reset: [/reset_prefix_cache]\n"), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="`reset:`, which the ruleset demo/1 does not allow"):
        resolve(tmp_path, system, RunOptions(), start=tmp_path)
    allowed = RunOptions(overrides=("reset_allowed=true",))
    settings = resolve(tmp_path, system, allowed, start=tmp_path)
    assert [deviation.rule for deviation in settings.deviations] == ["reset_allowed"]


def test_a_reset_is_a_path_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(SYSTEM.replace(ENDPOINT, ENDPOINT + "    reset: [http://elsewhere/]\n"), encoding="utf-8")
    with pytest.raises(ConfigError, match="is a list of paths"):
        load_system(path)
