"""How sure a coefficient is: its standard deviation over bootstrap resamples of the examples that theta was learned from."""

from __future__ import annotations

import numpy as np

from at2_core.estimator import Estimator
from pages.ui.head_grid import number, ranks
from pages.ui.head_state import Head

SURE = 2.0  # deviations that |theta| must have; below, other examples may well have given the other sign


def unsure(estimator: Estimator) -> np.ndarray | None:
    """bool (layers, heads): |theta| below two deviations; None where the deviations are not known."""
    if estimator.deviation is None:
        return None
    return np.abs(estimator.theta) < SURE * estimator.deviation


def spread(estimator: Estimator, head: Head) -> str:
    """ " ± 0.01" of one head, with a word where that leaves the sign open; "" where it is not known."""
    if estimator.deviation is None:
        return ""
    theta, deviation = abs(estimator.theta[head]), estimator.deviation[head]
    return f" ± {deviation:.2g}" + (" (unsure)" if theta < SURE * deviation else "")


def cell_labels(estimator: Estimator, of_deviation: bool) -> list[str] | None:
    """Hover text of every cell in reading order: theta ± deviation and the rank; None where they are not known.

    of_deviation: for the grid of the deviations, whose own number comes first.
    """
    theta, deviation = estimator.theta, estimator.deviation
    if deviation is None:
        return None
    labels = []
    for head, rank in np.ndenumerate(ranks(theta)):
        said = f"{number(theta[head])}{spread(estimator, (head[0], head[1]))}<br>rank {rank} of {theta.size} by size"
        labels.append(f"{deviation[head]:.2g}<br>coefficient {said}" if of_deviation else said)
    return labels


def legend_of_deviation(estimator: Estimator) -> str:
    """What the grid of deviations shows, and how many heads are unsure."""
    found = unsure(estimator)
    count = 0 if found is None else int(found.sum())
    return (
        "Stronger colour: the coefficient changed more between bootstrap resamples of the examples (standard deviation). "
        f"{count} of {estimator.theta.size} heads are unsure: |θ| below {SURE:g} deviations."
    )
