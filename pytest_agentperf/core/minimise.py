"""The minimum of a function without derivatives, in a box: Nelder and Mead's simplex (Computer Journal 7, 1965)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STEP = 0.15
"""Edge of the first simplex, as a share of the box."""


class Minimum(NamedTuple):
    """The best point tried."""

    point: tuple[float, ...]
    value: float
    evaluations: int
    converged: bool
    """Whether the simplex shrank below the tolerance before the evaluations were used up."""


def minimise(
    function: Callable[[tuple[float, ...]], float],
    start: Sequence[float],
    *,
    evaluations: int,
    tolerance: float = 0.002,
) -> Minimum:
    """Minimise over [0, 1] in every coordinate; points beyond are moved to the edge.

    Ends when all corners lie within `tolerance` of the best one in every coordinate, or after so many evaluations.
    """
    known: dict[tuple[float, ...], float] = {}

    def value(point: Sequence[float]) -> float:
        inside = tuple(min(1.0, max(0.0, x)) for x in point)
        if inside not in known:
            known[inside] = function(inside)
        return known[inside]

    def clip(point: Sequence[float]) -> tuple[float, ...]:
        return tuple(min(1.0, max(0.0, x)) for x in point)

    simplex = [clip(start)]
    for i, x in enumerate(simplex[0]):
        corner = list(simplex[0])
        corner[i] = x + _STEP if x + _STEP <= 1 else x - _STEP
        simplex.append(tuple(corner))
    for corner_ in simplex:
        value(corner_)
    n = len(start)
    converged = False
    while True:
        simplex.sort(key=value)
        best, worst = simplex[0], simplex[-1]
        if all(
            abs(x - y) <= tolerance for corner_ in simplex[1:] for x, y in zip(best, corner_, strict=True)
        ):
            converged = True
            break
        if len(known) >= evaluations:
            break
        centre = [sum(corner_[i] for corner_ in simplex[:-1]) / n for i in range(n)]

        def along(
            factor: float, centre: list[float] = centre, worst: tuple[float, ...] = worst
        ) -> tuple[float, ...]:
            return clip([c + factor * (c - w) for c, w in zip(centre, worst, strict=True)])

        reflected = along(1.0)
        if value(reflected) < value(best):
            expanded = along(2.0)
            simplex[-1] = expanded if value(expanded) < value(reflected) else reflected
        elif value(reflected) < value(simplex[-2]):
            simplex[-1] = reflected
        else:
            contracted = along(0.5 if value(reflected) < value(worst) else -0.5)
            if value(contracted) < min(value(reflected), value(worst)):
                simplex[-1] = contracted
            else:
                simplex = [
                    best,
                    *(clip([(b + x) / 2 for b, x in zip(best, c, strict=True)]) for c in simplex[1:]),
                ]
    point = min(known, key=lambda p: known[p])
    return Minimum(point, known[point], len(known), converged)
