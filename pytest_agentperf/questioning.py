"""Puts questions with checkable answers to a server, as the agents' requests go, and marks what it answers."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from pytest_agentperf.core.accuracy import RIGHT, UNANSWERED, WRONG, AccuracyScore
from pytest_agentperf.load.spoken import spoken
from pytest_agentperf.load.sse import decode
from pytest_agentperf.verify.questions import load_questions
from pytest_agentperf.verify.scoring import is_right

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentperf.config.run import RunSettings
    from pytest_agentperf.config.suite import Accuracy
    from pytest_agentperf.deployed import Ask, Deployed
    from pytest_agentperf.verify.questions import Question, QuestionSet

_LOAD_SHARE = 4
"""Questions in flight are at most this part of the agents: they come on top of the load."""


class Questioner:
    """Puts a set of questions to a server, as the suite samples."""

    def __init__(
        self, set_: QuestionSet, rules: Accuracy, *, model: str, parameters: Mapping[str, Any]
    ) -> None:
        self.set = set_
        self.rules = rules
        self._bodies = [_body(question, rules, model, parameters) for question in set_.questions]

    def concurrency(self, n_agents: int) -> int:
        """Return how many questions are in flight at once beside so many agents: one where there are none."""
        return max(1, min(self.rules.concurrency, n_agents // _LOAD_SHARE))

    def begin(self, ask: Ask, n_agents: int) -> Asking:
        """Begin to ask, every question as many times as the suite says."""
        return Asking(ask, self._bodies * self.rules.repeats, self.concurrency(n_agents))

    def score(self, asking: Asking, n_agents: int) -> AccuracyScore:
        """Mark the answers."""
        marks, tokens, cut = [], [], 0
        questions = self.set.questions * self.rules.repeats
        for question, body in zip(questions, asking.answers, strict=True):
            mark, output_tokens, was_cut = _mark(question, body)
            marks.append(mark)
            cut += was_cut
            if output_tokens is not None:
                tokens.append(output_tokens)
        return AccuracyScore(
            questions=self.set.name,
            questions_digest=self.set.digest,
            marks="".join(marks),
            concurrency=self.concurrency(n_agents),
            output_tokens_mean=sum(tokens) / len(tokens) if tokens else None,
            cut=cut,
        )


def questioner_for(settings: RunSettings, deployed: Deployed) -> Questioner:
    """Return the questioner of a suite that names questions; raises ConfigError if they cannot be read."""
    assert settings.suite.accuracy is not None
    assert settings.questions_path is not None
    return Questioner(
        load_questions(settings.questions_path),
        settings.suite.accuracy,
        model=deployed.deployment.endpoint.model or settings.suite.model,
        parameters=deployed.parameters,
    )


class Asking:
    """Questions on their way, a few at a time, in threads of their own."""

    def __init__(self, ask: Ask, bodies: Sequence[dict[str, Any]], concurrency: int) -> None:
        self.answers: list[bytes | None] = [None] * len(bodies)
        self._ask = ask
        self._bodies = bodies
        self._left: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(bodies)):
            self._left.put(number)
        self._stopped = False
        self._error: Exception | None = None
        # Daemons: one that waits for an answer must not keep the process from ending.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(concurrency)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Return whether all have been asked and answered, or refused; raises what went wrong on our side."""
        if self._error is not None:
            raise self._error
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ask no more; what is in flight is let go."""
        self._stopped = True

    def _work(self) -> None:
        while not self._stopped:
            try:
                number = self._left.get_nowait()
            except queue.Empty:
                return
            # No answer is a wrong one: under load as at one agent.
            try:
                self.answers[number] = self._ask(self._bodies[number])
            except Exception as error:
                # A bug of ours must not be taken for a wrong answer.
                self._error, self._stopped = error, True


def _mark(question: Question, body: bytes | None) -> tuple[str, int | None, bool]:
    """Return the mark of an answer, its tokens, and whether it ended for its length."""
    if body is None:
        return UNANSWERED, None, False
    content = decode([(0, body)])
    cut = content.finish_reason == "length"
    # An answer that was cut while the model still reasoned is an answer, and a wrong one.
    if content.failure is not None and not (content.failure == "no_output" and cut):
        return UNANSWERED, None, False
    return (RIGHT if is_right(question, spoken(body)) else WRONG), content.output_tokens, cut


def _body(question: Question, rules: Accuracy, model: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    # In the order of the agents' requests, so that nothing but the question tells them apart.
    fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": question.prompt}]}
    if question.tools:
        fields["tools"] = list(question.tools)
    options = {**(parameters.get("stream_options") or {}), "include_usage": True}
    fields |= {**parameters, "stream": True, "stream_options": options, "max_tokens": rules.max_tokens}
    return fields
