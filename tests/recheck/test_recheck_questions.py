"""Token counts and accuracy of a measured run: what its evidence gives, nobody can state otherwise."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from evidence import Evidence
from forging import Forgery, failed, findings
from hypothesis import given
from hypothesis import strategies as st
from scripted_stub import TOKENIZERS, Said, rendered, running
from stub_settings import settings_for

from pytest_agentperf.capacity import CapacityRun
from pytest_agentperf.core.accuracy import (
    AccuracyResult,
    AccuracyScore,
    Reference,
    binomial_detectable_drop,
    binomial_p_value,
    judge_accuracy,
    paired_detectable_drop,
    paired_p_value,
)
from pytest_agentperf.core.ruleset import DEMO_1
from pytest_agentperf.core.token_check import (
    Recount,
    judge_answers,
    judge_first_chunks,
    judge_prompts,
    recount_total,
    verification,
)
from pytest_agentperf.recheck.chance import below_p, paired_drop_problems, paired_p, reference_drop_problems
from pytest_agentperf.recheck.recount import recount_problems
from pytest_agentperf.results.journal import JOURNAL, FileJournal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from pytest_agentperf.recheck.numbers import Records

ASKED, AGENTS, WORDS = 30, 2, 60
S = 1_000_000_000


def honest(body: dict[str, Any], in_flight: int) -> Said:
    text = body["messages"][-1]["content"]
    if len(body["messages"]) > 1 or not text.startswith("What is "):
        return Said(" ".join(f"w{i}" for i in range(WORDS)), WORDS + 1, delay_s=0.01)
    return Said(f"Answer: {2 * int(text.split()[2])}", 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents on a server whose tokens are words, asked sums alone and under load, held against a reference."""
    place = tmp_path_factory.mktemp("questions")
    folder, modules, tokenizer = place / "run", place / "modules", place / "tokenizer"
    modules.mkdir()
    tokenizer.mkdir()
    (modules / "tokenizers.py").write_text(TOKENIZERS)
    (tokenizer / "tokenizer.json").touch()
    questions = place / "sums.jsonl"
    rows = (
        {"id": f"q{i}", "kind": "numeric", "prompt": f"What is {i} + {i}?", "answer": 2 * i}
        for i in range(ASKED)
    )
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    accuracy = {
        "questions": str(questions), "max_tokens": 77,
        "reference": {"score": 0.9, "source": "tests", "output_tokens_mean": 4},
    }  # fmt: skip
    evidence = Evidence(folder, rehearsal=False)
    journal = FileJournal(folder / JOURNAL)
    with pytest.MonkeyPatch.context() as patch, running(honest) as stub:
        # For load workers, and for this process.
        patch.setenv("PYTHONPATH", str(modules), prepend=":")
        patch.syspath_prepend(modules)
        patch.delitem(sys.modules, "tokenizers", raising=False)
        patch.setattr("pytest_agentperf.verify.counters.renderers", lambda *args, **_: (rendered, rendered))
        settings = settings_for(stub.url, tokenizer=str(tokenizer), accuracy=accuracy)
        with CapacityRun(settings, evidence, journal=journal) as run:
            result = run.measure("tier1")
            entry = evidence.entry(run, result)
    sys.modules.pop("tokenizers", None)
    journal.close()
    assert result.accuracy.status == "verified", result.accuracy
    assert entry.token_verification.status == "verified", entry.token_verification
    return evidence.bundle(entry)


def test_an_honest_run_holds_and_what_cannot_be_seen_is_said(bundle: Path, tmp_path: Path) -> None:
    assert failed(bundle) == {}
    assert failed(Forgery(bundle).write(tmp_path / "same.tar.gz")) == {}
    found = findings(bundle)
    under_load = [one.check for one in found if one.where.endswith(f"(accuracy, {AGENTS} agents)")]
    assert {"records", "assignment", "pace", "prefixes", "questions", "load", "tokens"} <= set(under_load)
    held = {one.check for one in found if one.status == "holds"}
    assert {"accuracy", "recount", "validity"} <= held
    unseen = {one.check: one.text for one in found if one.status == "not checkable"}
    assert "0.9 by 'tests'" in unseen["reference"]
    assert "as stated" in unseen["marks"]


def test_tokens_of_a_load_that_broke_down_in_the_end_are_held_against_no_records(
    bundle: Path, tmp_path: Path
) -> None:
    f = Forgery(bundle)
    reason = {"code": "load_worker_died", "what": "gone", "remedy": "look", "log_tail": []}
    for phase in _under_load(f):
        phase |= {"accuracy": None, "invalid": [reason]}
    _accuracy(f, status="not measured", reason="gone", alone=None, reference=None, phase=None)
    f.change_records("accuracy", AGENTS, lambda frame: frame[:0])
    wrong = failed(f.write(tmp_path / "broken.tar.gz"))
    assert not {"tokens", "questions", "load", "accuracy", "assignment", "pace"} & set(wrong), wrong


# Forgeries of accuracy


def _accuracy(f: Forgery, **changes: Any) -> None:
    for tier in f.tier():
        tier["accuracy"] |= changes


def _comparison(f: Forgery, name: str, **changes: Any) -> None:
    for tier in f.tier():
        tier["accuracy"][name] |= changes


def _under_load(f: Forgery) -> list[dict[str, Any]]:
    return f.phase("accuracy", AGENTS)


def _judged(f: Forgery, alone: str, loaded: str) -> AccuracyResult:
    """Give the questions other marks, and the tier what follows from these; returns that."""
    for phases, marks in ((f.phase("accuracy", 0), alone), (_under_load(f), loaded)):
        for phase in phases:
            phase["accuracy"]["marks"] = marks
    one, other = (AccuracyScore.model_validate(f.phase("accuracy", n)[0]["accuracy"]) for n in (0, AGENTS))
    rules = f.entry["ruleset"]
    found = judge_accuracy(
        one,
        other,
        Reference.model_validate(f.entry["suite"]["accuracy"]["reference"]),
        n_agents=AGENTS,
        phase=_under_load(f)[0]["phase"],
        alpha=rules["accuracy_alpha"],
        power=rules["accuracy_power"],
    )
    assert found.status == "dropped"
    _accuracy(f, **found.model_dump(mode="json"))
    return found


def drop_called_verified(f: Forgery) -> None:
    """Every figure is true; only what follows from them is not."""
    _judged(f, "1" * ASKED, "1" * 20 + "0" * 10)
    _accuracy(f, status="verified", reason=None)


def drop_below_the_reference_alone_called_verified(f: Forgery) -> None:
    """As bad when nobody else asks: the pairs show nothing, the reference does."""
    marks = "10" * (ASKED // 2)
    assert _judged(f, marks, marks).alone.p_value == 1.0  # type: ignore[union-attr]
    _accuracy(f, status="verified", reason=None)


def verified_called_a_drop(f: Forgery) -> None:
    _accuracy(f, status="dropped", reason="worse")
    for tier in f.tier():
        tier |= {"agents": None, "verdict": "INVALID"}


def verified_called_not_measured(f: Forgery) -> None:
    _accuracy(f, status="not measured", reason="no time", alone=None, reference=None, phase=None)


def laxer_error_rate(f: Forgery) -> None:
    _comparison(f, "alone", error_rate=0.001)


def lower_reference(f: Forgery) -> None:
    _comparison(f, "reference", against=0.5)


def no_reference(f: Forgery) -> None:
    _accuracy(f, reference=None)


def lower_reference_everywhere(f: Forgery) -> None:
    def change(suite: dict, system: dict) -> None:  # type: ignore[type-arg]
        suite["accuracy"]["reference"]["score"] = 0.5

    f.configure(change)
    lower_reference(f)


def smaller_drop_would_be_seen(f: Forgery) -> None:
    told = f.tier()[0]["accuracy"]["alone"]["detectable_drop"]
    _comparison(f, "alone", detectable_drop=told - 1 / ASKED)


def larger_drop_would_be_seen(f: Forgery) -> None:
    told = f.tier()[0]["accuracy"]["reference"]["detectable_drop"]
    _comparison(f, "reference", detectable_drop=told + 0.9 / 1000)


def no_drop_would_be_seen(f: Forgery) -> None:
    _comparison(f, "alone", detectable_drop=None)


def no_shorter_answers(f: Forgery) -> None:
    _comparison(f, "reference", output_tokens_drift=0.0)


def given_up_questions(f: Forgery) -> None:
    """What had been answered worse is said to have taken too long."""
    for phase in _under_load(f):
        reason = {"code": "accuracy_unfinished", "what": "late", "remedy": "", "log_tail": []}
        phase |= {"accuracy": None, "timed_out": True, "invalid": [reason]}
    _accuracy(f, status="not measured", reason="late", alone=None, reference=None, phase=None)


def more_at_once_alone(f: Forgery) -> None:
    for phase in f.phase("accuracy", 0):
        phase["accuracy"]["concurrency"] = 4


def asked_beside_no_load(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["failure"] = "http_503"
        return frame

    f.change_records("accuracy", AGENTS, change)


def asked_beside_one_agent(f: Forgery) -> None:
    f.change_records("accuracy", AGENTS, lambda frame: frame[frame.agent == 0])


def load_of_another_phase(f: Forgery) -> None:
    f.put(f.records("accuracy", AGENTS), f.table(f.records("ramp", AGENTS)))


def a_window_of_questions(f: Forgery) -> None:
    for phase in _under_load(f):
        phase["window_close_ns"] = phase["end_ns"]


# Forgeries of token counts


def _tokens(f: Forgery) -> list[dict[str, Any]]:
    return [phase["tokens"] for phase in f.phase("ramp", AGENTS)]


def claims_beyond_the_bound(f: Forgery) -> None:
    for tokens in _tokens(f):
        low, high = tokens["answers"]["recounted_tokens"]
        claimed = round(high * 1.05)
        tokens["answers"] |= {"claimed_tokens": claimed, "deviation": (claimed - high) / low}


def deviation_left_out(f: Forgery) -> None:
    for tokens in _tokens(f):
        tokens["answers"]["claimed_tokens"] = round(tokens["answers"]["claimed_tokens"] * 0.9)


def many_outliers(f: Forgery) -> None:
    for tokens in _tokens(f):
        tokens["answers"] |= {"sampled": 50, "counted": 50, "outliers": 0.5}


def wider_bound(f: Forgery) -> None:
    for tokens in _tokens(f):
        tokens["bound"] = 0.5


def wider_range(f: Forgery) -> None:
    for tokens in _tokens(f):
        tokens["answers"]["recounted_tokens"][1] *= 2


def prompts_of_other_length(f: Forgery) -> None:
    for tokens in _tokens(f):
        low = tokens["prompts"]["recounted_tokens"][0]
        claimed = low // 2
        tokens["prompts"] |= {"claimed_tokens": claimed, "deviation": (claimed - low) / low}


def hidden_first_chunks(f: Forgery) -> None:
    for tokens in _tokens(f):
        tokens["first_chunk_deviation"] = 0.3


def answers_cut(f: Forgery) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame["finish_reason"] = "length"
        return frame

    f.change_records("ramp", AGENTS, change)


def recount_of_more_than_came(f: Forgery) -> None:
    for tokens in _tokens(f):
        many = 10**9
        tokens["answers"] |= {"claimed_tokens": many, "recounted_tokens": [many, many]}


def too_little_recounted(f: Forgery) -> None:
    for tokens in _tokens(f):
        few = 100
        tokens["answers"] |= {"claimed_tokens": few, "recounted_tokens": [few, few]}


def verification_of_no_phase(f: Forgery) -> None:
    f.entry["token_verification"]["answers"]["sampled"] += 1


def invented_recount(f: Forgery) -> None:
    """A FAIL hidden behind token counts that are said to be off: the figures beside it must say so."""
    reason = {"code": "token_counts_off", "what": "off", "remedy": "", "log_tail": []}
    for phase in f.phase("ramp", AGENTS):
        phase["tokens"] |= {"status": "deviates", "reason": "off", "invalid": [reason]}
        phase["invalid"] = [reason]


FORGERIES: dict[Callable[[Forgery], None], str] = {
    drop_called_verified: "accuracy",
    drop_below_the_reference_alone_called_verified: "accuracy",
    verified_called_a_drop: "accuracy",
    verified_called_not_measured: "accuracy",
    laxer_error_rate: "accuracy",
    lower_reference: "accuracy",
    no_reference: "accuracy",
    lower_reference_everywhere: "digests",
    smaller_drop_would_be_seen: "accuracy",
    larger_drop_would_be_seen: "accuracy",
    no_drop_would_be_seen: "accuracy",
    no_shorter_answers: "accuracy",
    given_up_questions: "questions",
    more_at_once_alone: "questions",
    asked_beside_no_load: "load",
    asked_beside_one_agent: "tokens",
    load_of_another_phase: "records",
    a_window_of_questions: "questions",
    claims_beyond_the_bound: "recount",
    deviation_left_out: "recount",
    many_outliers: "recount",
    wider_bound: "recount",
    wider_range: "recount",
    prompts_of_other_length: "recount",
    hidden_first_chunks: "recount",
    answers_cut: "recount",
    recount_of_more_than_came: "recount",
    too_little_recounted: "recount",
    verification_of_no_phase: "flags",
    invented_recount: "validity",
}


@pytest.mark.parametrize(
    ("forge", "check"), FORGERIES.items(), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_forgery_is_caught_by_name(
    bundle: Path, tmp_path: Path, forge: Callable[[Forgery], None], check: str
) -> None:
    forgery = Forgery(bundle)
    forge(forgery)
    found = failed(forgery.write(tmp_path / "forged.tar.gz"))
    assert not {"manifest", "files", "journal"} & found.keys()
    assert check in found, found


def test_a_drop_that_is_called_one_holds(bundle: Path, tmp_path: Path) -> None:
    forgery = Forgery(bundle)
    reason = f"accuracy under load: {_judged(forgery, '1' * ASKED, '1' * 20 + '0' * 10).reason}"
    for tier in forgery.tier():
        tier |= {
            "agents": None, "verdict": "INVALID", "normalisation": None, "reason": reason,
            "interval": None, "interval_reason": "no capacity is stated",
        }  # fmt: skip
    forgery.entry["valid"] = {"value": False, "reasons": [f"tier1: {reason}"]}
    assert failed(forgery.write(tmp_path / "dropped.tar.gz")) == {}


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize(("asked", "worse", "better"), [(4, 0, 0), (30, 0, 0), (80, 5, 5), (400, 9, 3)])
def test_detectable_drops_are_those_of_the_tests_themselves(
    asked: int, worse: int, better: int, power: float
) -> None:
    """Two ways to the same numbers, at every size."""
    noise = min(worse, better)
    drop = paired_detectable_drop(asked, noise, alpha=0.05, power=power)
    assert paired_drop_problems(drop, asked, noise, 0.05, power) == []
    assert math.isclose(paired_p(worse, better), paired_p_value(worse, better), rel_tol=1e-9)
    for other in (None if drop else 0.5, 0.0 if drop is None else drop + 1 / asked, 2.0):
        assert paired_drop_problems(other, asked, noise, 0.05, power)
    for expected in (0.3, 0.95, 1.0):
        drop = binomial_detectable_drop(asked, expected, alpha=0.05, power=power)
        assert reference_drop_problems(drop, asked, expected, 0.05, power) == []
        right = asked - worse
        assert math.isclose(
            below_p(right, asked, expected), binomial_p_value(right, asked, expected), rel_tol=1e-9
        )
        other = 0.5 * expected if drop is None else drop - expected / 1000
        assert reference_drop_problems(other, asked, expected, 0.05, power)


class _Rows(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.failed)


@given(
    claims=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 6), st.floats(0.8, 1.2)), max_size=40),
    hidden=st.sampled_from([None, 0.0, 0.01, 0.5]),
)
def test_recounts_are_judged_as_when_they_were_made(
    claims: list[tuple[int, int, float]], hidden: float | None
) -> None:
    counts = [
        Recount(f"answer {i}", round(low * share), low, low + room)
        for i, (low, room, share) in enumerate(claims)
    ]
    total = recount_total(counts, DEMO_1.token_deviation_max)
    invalid = [
        *judge_answers(total, DEMO_1),
        *judge_prompts(total, DEMO_1),
        *judge_first_chunks(hidden, DEMO_1),
    ]
    made = verification(
        total,
        invalid=invalid,
        reason=None,
        prompts=total,
        first_chunk_deviation=hidden,
        bound=DEMO_1.token_deviation_max,
    )
    told = made.model_dump(mode="json")
    records = _Rows(
        failed=np.zeros(len(counts), dtype=bool),
        number={
            name: np.array([one.claimed for one in counts], dtype=float)
            for name in ("output_tokens", "prompt_tokens")
        },
        text={"finish_reason": ["stop"] * len(counts)},
    )
    rules = DEMO_1.model_dump(mode="json")
    codes, wrong = recount_problems(told, cast("Records", records), rules, measured=True)
    assert wrong == []
    assert codes == {reason.code for reason in invalid}
