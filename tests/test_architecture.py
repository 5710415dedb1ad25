"""The claims of ARCHITECTURE.md: imports go one way, and one module reads the clock."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PACKAGE = Path(__file__).parents[1] / "pytest_agentperf"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room and what it may import; every room may import itself.
SIBLINGS = {"dataset", "load", "power", "deploy", "verify", "sim", "results"}
BELOW_SIBLINGS = {"core", "config", "clock", "tls", "software"}
COMPOSED = {
    "interruption",
    "liveness",
    "observer",
    "accuracy_phase",
    "baselines",
    "questioning",
    "calibration",
    "capacity",
    "client_doubts",
    "deployed",
    "encoding",
    "opening",
    "oracle",
    "planning",
    "preflight",
    "rehearsal",
    "strategy",
    "tabulation",
    "twin",
    "twin_results",
    "validity",
    "verification",
    "worker",
}
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "clock": {"", "core"},
    "software": {""},
    "tls": {"", "core"},
    # Recomputes what the others computed: whatever it shared with them, it could not check.
    "recheck": {""},
    "core": {""},
    "config": {"", "core"},
    **{room: {"", *BELOW_SIBLINGS} for room in SIBLINGS},
    "worker": {"", *BELOW_SIBLINGS, *SIBLINGS},
    "calibration": {"", *BELOW_SIBLINGS, *SIBLINGS},
    "client_doubts": {"", "core"},
    "interruption": {"", "core"},
    "liveness": {"", "core"},
    "observer": {"", "core", "deployed"},
    "strategy": {"", "core", "config"},
    "baselines": {"", *BELOW_SIBLINGS, "results"},
    "deployed": {"", *BELOW_SIBLINGS, *SIBLINGS, "client_doubts", "interruption", "liveness", "validity"},
    "validity": {"", "core"},
    "encoding": {"", *BELOW_SIBLINGS, *SIBLINGS},
    "preflight": {"", *BELOW_SIBLINGS, *SIBLINGS, "encoding"},
    "tabulation": {"", *BELOW_SIBLINGS, *SIBLINGS},
    "verification": {"", *BELOW_SIBLINGS, *SIBLINGS},
    "questioning": {"", *BELOW_SIBLINGS, *SIBLINGS, "deployed"},
    "accuracy_phase": {"", *BELOW_SIBLINGS, *SIBLINGS, "questioning", "deployed"},
    "opening": {
        "",
        *BELOW_SIBLINGS,
        *SIBLINGS,
        "calibration",
        "deployed",
        "encoding",
        "preflight",
        "verification",
        "worker",
    },
    "capacity": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
    "recovery": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
    "cli": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED, "recheck", "recovery"},
    "plugin": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED, "recovery"},
    "rehearsal": {
        "",
        *BELOW_SIBLINGS,
        *SIBLINGS,
        "capacity",
        "deployed",
        "observer",
        "opening",
        "tabulation",
    },
    "oracle": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
    "planning": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
    "twin": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
    "twin_results": {"", *BELOW_SIBLINGS, *SIBLINGS, *COMPOSED},
}
CORE_MAY_IMPORT = {"numpy", "pydantic", "pytest_agentperf"}
CORE_MUST_NOT_IMPORT = {
    "asyncio",
    "io",
    "os",
    "pathlib",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def name_of(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(parsed(path)))


def imports(path: Path, *, at_run_time_of_import: bool = False) -> Iterator[str]:
    for node in parsed(path).body if at_run_time_of_import else nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                below = PACKAGE.parent.joinpath(*node.module.split("."), alias.name)
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def modules_that(is_wrong: Callable[[Path], object], modules: Iterable[Path] = MODULES) -> dict[str, object]:
    """Return what is wrong by module; a test of its own for each would cost more than what it looks at."""
    return {name_of(path): found for path in modules if (found := is_wrong(path))}


def forbidden_rooms(path: Path) -> set[str]:
    here = room(name_of(path))
    found = {room(name) for name in imports(path) if name.split(".")[0] == "pytest_agentperf"}
    return found - ALLOWED[here] - {here}


def test_imports_go_one_way() -> None:
    assert modules_that(forbidden_rooms) == {}


def impurities(path: Path) -> set[str]:
    tops = {name.split(".")[0] for name in imports(path)}
    return (tops & CORE_MUST_NOT_IMPORT) | (tops - CORE_MAY_IMPORT - sys.stdlib_module_names)


def test_core_is_pure() -> None:
    core = [path for path in MODULES if room(name_of(path)) == "core"]
    assert core
    assert modules_that(impurities, core) == {}


def test_only_the_clock_reads_the_clock() -> None:
    assert list(modules_that(lambda path: "time" in imports(path))) == ["pytest_agentperf.clock"]


def counts_in_its_own_seconds(path: Path) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == "NS_PER_S" and isinstance(node.ctx, ast.Store)
        for node in nodes_of(path)
    )


def test_a_second_is_defined_once() -> None:
    # What verifies bundles shares nothing with what made them.
    assert set(modules_that(counts_in_its_own_seconds)) == {
        "pytest_agentperf.core.units",
        "pytest_agentperf.recheck.numbers",
    }


@pytest.mark.parametrize("name", ["plugin", "plugin.options", "plugin.fixtures", "plugin.hookspecs"])
def test_what_every_pytest_start_imports_is_light(name: str) -> None:
    path = PACKAGE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for imported in imports(path, at_run_time_of_import=True):
        top = imported.split(".")[0]
        assert (
            top in sys.stdlib_module_names
            or top == "pytest"
            or imported.startswith("pytest_agentperf.plugin")
        )


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        (("worker",), {"pydantic", "yaml", "httpx", "pyarrow", "asyncio"}),
        (
            ("power.child", "power.sim", "power.nvml", "power.exporter", "power.redfish"),
            {"numpy", "yaml", "httpx"},
        ),
    ],
)
def test_what_every_run_starts_beside_itself_is_light(modules: tuple[str, ...], unneeded: set[str]) -> None:
    names = ", ".join(f"pytest_agentperf.{name}" for name in modules)
    code = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert f"pytest_agentperf.{modules[0]}" in loaded
    assert not loaded & unneeded


def test_the_rule_sees_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from pytest_agentperf.load import sse\n", encoding="utf-8")
    assert {room(name) for name in imports(wrong)} == {"load"}


RUNS_CODE_OF_OTHERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
# What a server, a dataset or a file said never becomes code. `literal_eval` reads values only.
CALLS_CODE_OF_OTHERS = {
    "eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load",
    "yaml.full_load", "ssl._create_unverified_context",
}  # fmt: skip


# One function leaves TLS verification out, for one key of a system's file; nobody else may.
MAY_TRUST_ANYBODY = PACKAGE / "tls.py", "unverified_context"


def trusts_anybody(node: ast.AST) -> bool:
    """Return whether a node leaves TLS verification out, or may: what is assigned there is no literal True."""
    match node:
        case ast.Attribute(attr="CERT_NONE" | "CERT_OPTIONAL") | ast.Name(id="CERT_NONE" | "CERT_OPTIONAL"):
            return True
        case ast.ImportFrom(module="ssl"):
            return True  # its names could be called anything then
        case ast.Assign(targets=[ast.Attribute(attr="check_hostname")], value=value):
            return not (isinstance(value, ast.Constant) and value.value is True)
        case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=name), *_]):
            return name in ("check_hostname", "verify_mode")
    return False


def dangers(path: Path) -> Iterator[str]:
    yield from RUNS_CODE_OF_OTHERS & {name.split(".")[0] for name in imports(path)}
    allowed = {
        node
        for function in parsed(path).body
        if isinstance(function, ast.FunctionDef) and (path, function.name) == MAY_TRUST_ANYBODY
        for node in ast.walk(function)
    }
    for node in nodes_of(path):
        if trusts_anybody(node) and node not in allowed:
            yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in CALLS_CODE_OF_OTHERS:
            yield called
        for keyword in node.keywords:
            text = f"{keyword.arg}={ast.unparse(keyword.value)}"
            if text in ("shell=True", "verify=False", "allow_pickle=True"):
                yield text


def test_nothing_of_others_is_run_or_trusted() -> None:
    assert modules_that(lambda path: list(dangers(path))) == {}


@pytest.mark.parametrize(
    "code",
    [
        "eval('1')",
        "import pickle",
        "import yaml\nyaml.load('')",
        "f(shell=True)",
        "get('', verify=False)",
        "context.verify_mode = ssl.CERT_NONE",
        "from ssl import CERT_NONE",
        "context.check_hostname = False",
        "context.check_hostname = verify",
        "setattr(context, 'check_hostname', False)",
        "def unverified_context():\n    context.check_hostname = False",
    ],
)
def test_the_rule_sees_a_danger(tmp_path: Path, code: str) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(code, encoding="utf-8")
    assert list(dangers(wrong))


def test_modules_stay_readable() -> None:
    assert modules_that(lambda path: len(path.read_text(encoding="utf-8").split("\n")) > 450) == {}


def prose_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a page that a writer may wrap: none of tables, of blocks of code, or headings."""
    fenced = before = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        # Four spaces after an empty line begin a block of code, and go on in one.
        indented = line.startswith("    ") and before
        before = not line.strip() or indented
        if not (fenced or indented or line.startswith(("|", "#"))):
            yield number, line


def test_pages_are_wrapped() -> None:
    pages = [path for folder in (".", "docs", "examples") for path in (PACKAGE.parent / folder).glob("*.md")]
    pages += [path for folder in ("docs", "examples") for path in (PACKAGE.parent / folder).glob("*/*.md")]
    assert len(pages) > 20
    long = [f"{path}:{n}: {len(line)}" for path in pages for n, line in prose_lines(path) if len(line) > 140]
    assert not long
