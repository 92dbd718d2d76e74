"""The share of intervals that hold the true age: which are asked for, and what the metrics of them are called."""

COVERAGE = 0.9
"""Where nobody asks for another."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, COVERAGE, 0.95)
"""That an evaluation tries."""


def share_inside(coverage: float) -> str:
    """The name of the metric: covered_90."""
    return f"covered_{100 * coverage:.0f}"


def interval_width(coverage: float) -> str:
    """The name of the metric: interval_90_months."""
    return f"interval_{100 * coverage:.0f}_months"
