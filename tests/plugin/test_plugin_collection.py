"""What happens before anything is measured: ids, skips, precedence of options, bad input, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import junitparser
import pytest
from plugin_support import Workplace, plain_environment, properties_of, suite_yaml

from pytest_agentperf.plugin.options import OPTIONS, bundled_suite_arguments, run_options

IDS = [f"suites/tiny/test_capacity.py::test_capacity[{s}-tier{n}]" for s in ("box", "other") for n in (1, 2)]


def collected(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    result = pytester.runpytest_inprocess("--collect-only", "-q", *arguments)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return [line for line in result.outlines if "::" in line]


def refused(pytester: pytest.Pytester, *arguments: str, code: int = 4) -> str:
    """Run pytest, which must end with `code` and write nothing, and return what it said."""
    before = sorted(pytester.path.rglob("agentperf-results*"))
    result = pytester.runpytest_inprocess("suites/tiny", *arguments)
    assert result.ret == code
    assert sorted(pytester.path.rglob("agentperf-results*")) == before == []
    text = "\n".join([*result.outlines, *result.errlines])
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return text


def test_ids_are_stable_and_ordered(pytester: pytest.Pytester, place: Workplace) -> None:
    place.system("other")
    systems = ("--system=box", "--system=other")
    assert collected(pytester, "suites/tiny", *systems) == IDS
    assert collected(pytester, "suites", *systems) == IDS
    assert collected(pytester, *systems, "-p", "no:xdist", "-p", "no:cacheprovider") == IDS
    assert collected(pytester, "suites/tiny", *systems, "-k", "box and tier2") == [IDS[1]]
    assert collected(pytester, IDS[2], *systems) == [IDS[2]]
    assert collected(pytester, "suites/tiny", *systems, "--agentperf-tier=tier2") == [IDS[1], IDS[3]]


def test_a_system_is_named_once_however_it_is_given(pytester: pytest.Pytester, place: Workplace) -> None:
    again = (
        "--system=box",
        "--system=box",
        "--system=systems/box.yaml",
        f"--system={place.folder}/systems/box.yaml",
    )
    assert collected(pytester, "suites/tiny", *again) == IDS[:2]


def test_the_name_stands_in_the_file(pytester: pytest.Pytester, place: Workplace) -> None:
    text = (place.folder / "systems/box.yaml").read_text(encoding="utf-8")
    place.write("elsewhere/mine.yml", text.replace("name: box", "name: other"))
    assert collected(pytester, "suites/tiny", "--system=elsewhere/mine.yml") == IDS[2:]


def test_collecting_writes_nothing(pytester: pytest.Pytester, place: Workplace) -> None:
    before = place.files()
    result = pytester.runpytest_inprocess("suites/tiny", "--system=box", "--collect-only")
    result.stdout.fnmatch_lines(["agentperf: *systems: box (demo/1; power: sim)*", "*2 tests collected*"])
    assert place.files() == before


def test_two_systems_of_one_name_are_refused(pytester: pytest.Pytester, place: Workplace) -> None:
    place.write("systems/twin.yaml", (place.folder / "systems/box.yaml").read_text(encoding="utf-8"))
    text = refused(pytester, "--system=box", "--system=twin")
    assert "two systems are named 'box'" in text
    assert "twin.yaml" in text


def test_two_suites_of_one_name_are_refused(pytester: pytest.Pytester, place: Workplace) -> None:
    place.write("suites/copy/suite.yaml", suite_yaml(place.dataset))
    place.write("suites/copy/test_copy.py", "def test_it(system): pass")
    text = refused(pytester, "suites/copy", "--system=box")
    assert "another suite of this session is named 'tiny' too" in text


def test_without_a_system_every_case_is_skipped(pytester: pytest.Pytester, place: Workplace) -> None:
    place.test("def test_a(capacity_run): pass\ndef test_b(system): pass\ndef test_c(slo_tier): pass")
    before = place.files()
    result = pytester.runpytest_inprocess("suites/tiny", "-rs")
    result.assert_outcomes(skipped=3)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["SKIPPED*no system to measure: pass --system=NAME (`agentperf systems` lists them)"]
    )
    assert place.files() == before


def test_a_test_of_the_system_alone_has_one_case_per_system(
    pytester: pytest.Pytester, place: Workplace
) -> None:
    place.system("other")
    place.test(
        """
        import pytest

        @pytest.fixture
        def accelerators(system):
            return [d.allocated_accelerators for d in system.deployments.values()]

        @pytest.mark.parametrize("n", [2])
        def test_size(accelerators, n):
            assert accelerators == [n]
        """
    )
    result = pytester.runpytest_inprocess("suites/tiny", "--system=box", "--system=other", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_size[[]box-2]*", "*test_size[[]other-2]*"])
    assert not place.results.exists()


def test_the_marker_names_the_suite(pytester: pytest.Pytester, place: Workplace) -> None:
    for number, marker in enumerate(("suite='../suites/tiny/suite.yaml'", "'../suites/tiny'")):
        place.write(
            f"tests/test_elsewhere{number}.py",
            f"import pytest\n\n@pytest.mark.agentperf({marker})\ndef test_here(slo_tier): pass\n",
        )
    pytester.runpytest_inprocess("tests", "--system=box", "--strict-markers").assert_outcomes(passed=4)


def test_a_test_without_a_suite_says_so(pytester: pytest.Pytester, place: Workplace) -> None:
    place.write("tests/test_lonely.py", "def test_here(slo_tier): pass")
    result = pytester.runpytest_inprocess("tests", "--system=box")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*agentperf: *tests/suite.yaml: no such suite*", "*put a suite.yaml beside the test*"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_an_endpoint_that_is_not_configured_is_a_skip(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.system("away", endpoint={"url_env": "AGENTPERF_AWAY_URL", "api_key_env": "AGENTPERF_AWAY_KEY"})
    place.system("locked", endpoint={"url": "http://127.0.0.1:9/v1", "api_key_env": "AGENTPERF_LOCKED_KEY"})
    place.system("narrow")
    narrow = (place.folder / "systems/narrow.yaml").read_text(encoding="utf-8")
    place.write("systems/narrow.yaml", narrow.replace("      tier2: {}\n", ""))
    before = place.files()
    systems = ("--system=away", "--system=locked", "--system=narrow")
    result = pytester.runpytest_inprocess("suites/tiny", *systems, "-rs", "--junitxml=j.xml", "-k", "tier2")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(skipped=3, deselected=3)
    text = result.stdout.str()
    assert "set AGENTPERF_AWAY_URL to its base URL" in text
    assert "no API key: set AGENTPERF_LOCKED_KEY" in text
    assert "has no deployment for tiny tier2: add one under `deployments:`" in text
    assert place.files() == sorted([*before, "j.xml"])
    # What was asked is in the report of a skipped test too.
    suite = next(iter(junitparser.JUnitXml.fromfile("j.xml")))
    for case in suite:
        found = properties_of(case)
        assert found["agentperf.suite"] == "tiny"
        assert found["agentperf.tier"] == "tier2"
        assert case.name == f"test_capacity[{found['agentperf.system']}-tier2]"
        assert "agentperf.verdict" not in found


# Precedence


def options_of(pytester: pytest.Pytester, *arguments: str) -> object:
    return run_options(pytester.parseconfig(*arguments))


def test_flag_before_environment_before_ini(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\naddopts = -p no:asyncio\nagentperf_seed = 1\nagentperf_set =\n  a=1\n  b=2\n")
    assert run_options(pytester.parseconfig()).seed == 1
    assert run_options(pytester.parseconfig()).overrides == ("a=1", "b=2")
    monkeypatch.setenv("AGENTPERF_SEED", "2")
    monkeypatch.setenv("AGENTPERF_SET", "c=3 d=4")
    assert run_options(pytester.parseconfig()).seed == 2
    assert run_options(pytester.parseconfig()).overrides == ("c=3", "d=4")
    flags = ("--agentperf-seed=3", "--agentperf-set=e=5", "--agentperf-set=f=6")
    assert run_options(pytester.parseconfig(*flags)).seed == 3
    assert run_options(pytester.parseconfig(*flags)).overrides == ("e=5", "f=6")
    monkeypatch.setenv("AGENTPERF_SEED", "")
    assert run_options(pytester.parseconfig()).seed == 1, "an empty variable says nothing"


def test_a_flag_for_workers_wins_over_places_for_them_elsewhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\naddopts = -p no:asyncio\nagentperf_workers = 2\n")
    found = run_options(pytester.parseconfig("--agentperf-load=ssh=a"))
    assert (found.workers, found.load) == (None, ("ssh=a",))
    monkeypatch.setenv("AGENTPERF_LOAD", "ssh=b")
    found = run_options(pytester.parseconfig("--agentperf-workers=3"))
    assert (found.workers, found.load) == (3, ())
    found = run_options(pytester.parseconfig())
    assert (found.workers, found.load) == (2, ("ssh=b",)), "which of them counts is not to be guessed"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_flag_variable_and_ini_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: object
) -> None:
    from pytest_agentperf.plugin.options import Option, values

    assert isinstance(option, Option)
    assert option.flag == "--system" or option.flag.startswith("--agentperf-")
    pytester.makeini(f"[pytest]\naddopts = -p no:asyncio\n{option.ini} = from-ini\n")
    assert values(pytester.parseconfig(), option.name) == ["from-ini"]
    monkeypatch.setenv(option.ini.upper(), "from-environment")
    assert values(pytester.parseconfig(), option.name) == ["from-environment"]
    flag, expected = (option.flag, "1") if option.switch else (f"{option.flag}=from-flag", "from-flag")
    assert values(pytester.parseconfig(flag), option.name) == [expected]


def test_the_system_may_come_from_the_environment_or_the_ini(
    pytester: pytest.Pytester, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.system("other")
    place.write("pytest.ini", "[pytest]\naddopts = -p no:asyncio\nagentperf_system = box\n")
    assert collected(pytester, "suites/tiny") == IDS[:2]
    monkeypatch.setenv("AGENTPERF_SYSTEM", "other box")
    assert collected(pytester, "suites/tiny") == [*IDS[2:], *IDS[:2]]
    assert collected(pytester, "suites/tiny", "--system=other") == IDS[2:]


def test_a_flag_overrules_the_yaml(pytester: pytest.Pytester, place: Workplace) -> None:
    """The ruleset's window is 2 s; the suite says 3, the system 0.4, the flag 5, and each change is listed."""
    place.suite(suite_yaml(place.dataset, overrides={"min_window_s": 3.0, "settle_s": 1.0}))
    place.write(
        "conftest.py",
        """
        def pytest_collection_modifyitems(items):
            settings = items[0].callspec.params["agentperf_case"].settings
            print("RULES", settings.ruleset.min_window_s, settings.ruleset.settle_s, settings.seed)
            print("LISTED", {d.rule: (d.expected, d.actual, d.reason) for d in settings.deviations}["min_window_s"])
        """,
    )
    arguments = ("suites/tiny", "--system=box", "--collect-only", "-s")
    result = pytester.runpytest_inprocess(*arguments)
    result.stdout.fnmatch_lines(["*RULES 0.4 0.02 0*", "LISTED ('2.0', '0.4', 'changed by the system')"])
    result = pytester.runpytest_inprocess(*arguments, "--agentperf-set=min_window_s=5", "--agentperf-seed=7")
    result.stdout.fnmatch_lines(["*RULES 5.0 0.02 7*", "LISTED ('2.0', '5.0', 'changed by a flag')"])


# Bad input


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--agentperf-set=min_window_s", "--agentperf-set: 'min_window_s' is not RULE=VALUE"),
        ("--agentperf-set=window=3", "--agentperf-set: unknown rule 'window'"),
        ("--agentperf-set=min_window_s=short", "--agentperf-set: rule min_window_s:"),
        ("--agentperf-set=min_window_s=[", "the value of 'min_window_s' cannot be read"),
        ("--agentperf-set=official=true", "unknown rule 'official'"),
        ("--agentperf-tier=tier9", "has no tier 'tier9'\n  → one of: tier1, tier2"),
        ("--agentperf-edition=next", "has no edition 'next'"),
        ("--agentperf-ruleset=mine/1", "--agentperf-ruleset: unknown ruleset 'mine/1'"),
        ("--agentperf-dataset=bundled:nothing", "unknown dataset 'bundled:nothing'"),
        ("--agentperf-budget=soon", "--agentperf-budget: 'soon' is no budget"),
        ("--agentperf-output-length=long", "--agentperf-output-length: 'long' is no output length"),
        ("--agentperf-seed=x", "--agentperf-seed: 'x' is no whole number from 0 on"),
        ("--agentperf-workers=0", "--agentperf-workers: '0' is no whole number from 1 on"),
        ("--agentperf-max-agents=-1", "--agentperf-max-agents: '-1' is no whole number from 1 on"),
        ("--agentperf-start=99999", "--agentperf-start: the search cannot start at 99999 agents"),
        ("--system=nobody", "--system: unknown system 'nobody'\n  → one of: b300, box, gb300,"),
        ("--system=no/such.yaml", "no/such.yaml: no such system file"),
        ("--agentperf-results=pytest.ini/x", "--agentperf-results: results cannot be written"),
    ],
)
def test_a_bad_flag_is_a_usage_error(
    pytester: pytest.Pytester, place: Workplace, argument: str, message: str
) -> None:
    text = refused(pytester, "--system=box", argument)
    assert message in text
    assert "ERROR: agentperf: " in text
    assert "  → " in text


def test_a_broken_yaml_names_file_and_line(pytester: pytest.Pytester, place: Workplace) -> None:
    good = (place.folder / "systems/box.yaml").read_text(encoding="utf-8")
    place.write("systems/box.yaml", good.replace("title: Box", "title: [Box"))
    assert f"{place.folder}/systems/box.yaml:4: not valid YAML" in refused(pytester, "--system=box")
    place.write("systems/box.yaml", good.replace("title: Box", "titel: Box"))
    text = refused(pytester, "--system=box")
    assert f"{place.folder}/systems/box.yaml:3: unknown key `titel`" in text
    assert "did you mean `title`?" in text
    place.write("systems/box.yaml", good)
    place.suite(suite_yaml(place.dataset).replace("edition: first", "edition: last"))
    assert "suites/tiny/suite.yaml:" in refused(pytester, "--system=box")


def test_a_broken_suite_below_a_folder_is_an_error_of_collection(
    pytester: pytest.Pytester, place: Workplace
) -> None:
    place.suite("schema: agentperf-suite/1\n")
    result = pytester.runpytest_inprocess("suites", "--system=box")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*agentperf: *suites/tiny/suite.yaml:1: `name` is missing*"])
    assert not place.results.exists()


def test_the_results_folder_need_not_exist_to_collect(pytester: pytest.Pytester, place: Workplace) -> None:
    assert collected(pytester, "suites/tiny", "--system=box", "--agentperf-results=pytest.ini/x") == IDS[:2]


# Around pytest


def test_the_bundled_suite_from_an_empty_folder(pytester: pytest.Pytester) -> None:
    command = [sys.executable, "-m", "pytest", "suites/deepseek_v4_pro", "--co", "-q", "--system=sim"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=pytester.path, env=plain_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert found == [f"test_capacity[sim-tier{n}]" for n in (1, 2, 3)]
    assert list(pytester.path.iterdir()) == []


def test_bundled_suites_stand_in_only_where_nothing_is(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [
        "-q",
        "suites/gpt_oss_120b/test_capacity.py::test_capacity",
        "suites/nothing",
        "suites",
        "-k",
        "x",
    ]
    bundled_suite_arguments(arguments)
    path, _, rest = arguments[1].partition("::")
    assert Path(path).is_file()
    assert Path(path).parts[-3:] == ("suites", "gpt_oss_120b", "test_capacity.py")
    assert rest == "test_capacity"
    assert arguments[2:] == ["suites/nothing", "suites", "-k", "x"]
    pytester.mkpydir("suites")
    (pytester.path / "suites" / "gpt_oss_120b").mkdir()
    own = ["suites/gpt_oss_120b"]
    bundled_suite_arguments(own)
    assert own == ["suites/gpt_oss_120b"]


def test_the_plugin_can_be_switched_off(pytester: pytest.Pytester, place: Workplace) -> None:
    result = pytester.runpytest_subprocess("suites/tiny", "-p", "no:agentperf", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'capacity_run' not found*"])
    pytester.runpytest_subprocess("--system=box", "-p", "no:agentperf").stderr.fnmatch_lines(
        ["*unrecognized arguments*"]
    )


def test_a_plain_session_imports_nothing_heavy(pytester: pytest.Pytester, place: Workplace) -> None:
    place.write(
        "test_plain.py",
        """
        import sys

        def test_imports():
            heavy = {"pydantic", "numpy", "orjson", "httpx", "pyarrow", "yaml", "filelock", "httptools"}
            assert "pytest_agentperf.plugin" in sys.modules
            assert heavy & set(sys.modules) == set()

        def test_skipped(capacity_run):
            raise AssertionError
        """,
    )
    flags = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:anyio")
    result = pytester.runpytest_subprocess("test_plain.py", *flags)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.no_fnmatch_line("agentperf:*")


def test_help_lists_the_options_in_their_group(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help", "-p", "no:asyncio")
    result.stdout.fnmatch_lines(
        [
            "capacity of inference systems in coding agents:",
            "*--system=NAME|PATH*",
            "*--agentperf-budget=BUDGET*",
        ]
    )
    result = pytester.runpytest_inprocess("--markers", "-p", "no:asyncio")
    result.stdout.fnmatch_lines(["@pytest.mark.agentperf(suite):*"])
