"""How a fit of a model is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentperf.results.tables import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentperf.twin import Fit
    from pytest_agentperf.twin_results import Measured

_METRICS = {
    "speed_p25_tok_s": "speed P25, tok/s",
    "ttft_p95_s": "TTFT P95, s",
    "throughput_tok_s": "throughput, tok/s",
    "power_w": "W per accelerator",
}


def fit_text(fits: Mapping[str, Fit], measured: Mapping[str, Measured]) -> str:
    """Return the report for people: parameters, then every figure measured and modelled."""
    blocks = []
    for name, fit in fits.items():
        found = measured[name]
        parameters = [["parameter", "before", "fitted", ""]]
        parameters += [
            [key, f"{before:.4g}", f"{after:.4g}", "at its bound" if key in fit.at_bound else ""]
            for key, (before, after) in fit.parameters.items()
        ]
        rows = [["agents", "", "measured", "before", "fitted", "error"]]
        for one, before, after in zip(found.phases, fit.before, fit.after, strict=True):
            for key, label in _METRICS.items():
                row = [_number(getattr(p, key)) for p in (one, before, after)]
                rows.append([str(one.n_agents), label, *row, _error(getattr(after, key), getattr(one, key))])
        for tier, agents in found.capacities.items():
            earlier, later = fit.capacity[tier]
            rows.append(
                ["", f"{tier}, agents", str(agents), _number(earlier), _number(later), _error(later, agents)]
            )
        ended = "converged" if fit.converged else "NOT converged: give more --evaluations"
        blocks += [
            f"{name}: {fit.evaluations} models, {ended}; root mean square of the residuals, in units of their "
            f"noise: {fit.rms_before:.2f} before, {fit.rms_after:.2f} fitted",
            render(parameters),
            render(rows),
        ]
    blocks.append("SIMULATED: a model that fits what was measured may still be wrong elsewhere.")
    return "\n\n".join(blocks)


def fit_json(fits: Mapping[str, Fit], measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Return the report for programs."""
    return {
        "simulated": True,
        "deployments": {
            name: {
                **fit._asdict(),
                "measured": [one._asdict() for one in measured[name].phases],
                "before": [one._asdict() for one in fit.before],
                "after": [one._asdict() for one in fit.after],
                "measured_capacity": measured[name].capacities,
            }
            for name, fit in fits.items()
        },
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def _error(value: float | None, truth: float | None) -> str:
    return "–" if value is None or not truth else f"{value / truth - 1:+.1%}"
