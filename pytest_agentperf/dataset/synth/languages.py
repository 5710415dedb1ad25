"""All languages that code can be synthesised in, by name."""

from pytest_agentperf.dataset.synth.compiled import COMPILED
from pytest_agentperf.dataset.synth.managed import MANAGED
from pytest_agentperf.dataset.synth.scripting import SCRIPTING

SYNTAXES = {syntax.name: syntax for syntax in (*SCRIPTING, *COMPILED, *MANAGED)}
