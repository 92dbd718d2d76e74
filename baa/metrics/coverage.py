"""Coverage of prediction intervals: levels and metric names."""

COVERAGE = 0.9
"""Default coverage."""

COVERAGES = (0.5, 0.6, 0.7, 0.8, COVERAGE, 0.95)
"""Coverages that an evaluation reports."""


def share_inside(coverage: float) -> str:
    """Return the name of the metric for the share of true ages inside their intervals.

    Example:
        >>> share_inside(0.9)
        'covered_90'
    """
    return f"covered_{100 * coverage:.0f}"


def interval_width(coverage: float) -> str:
    """Return the name of the metric for the mean interval width.

    Example:
        >>> interval_width(0.9)
        'interval_90_months'
    """
    return f"interval_{100 * coverage:.0f}_months"
