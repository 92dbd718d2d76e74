"""Paired differences, worked out by hand."""

import pandas as pd
import pytest

from baa.errors import InputError
from baa.metrics.comparison import paired_difference, read_predictions


def table(errors, ids=None, true=100.0):
    ids = ids or [str(i) for i in range(len(errors))]
    return pd.DataFrame({"id": ids, "true_months": true, "predicted_months": [true + e for e in errors]}).set_index("id")


def test_the_difference_is_of_the_cases_that_both_predicted():
    result = paired_difference(table([1, -2, 3, 50]), table([-2, 4, 4], ids=["0", "1", "2"]), "test")

    assert result["test/paired_cases"] == 3
    assert result["test/mae_difference"] == pytest.approx((1 + 2 + 3) / 3 - (2 + 4 + 4) / 3)


def test_pairing_finds_what_two_intervals_would_not():
    noise = [(i * 37 % 41) - 20 for i in range(200)]
    low, high = paired_difference(table(noise), table([e * 1.1 for e in noise]), "test")["test/mae_difference_ci"]
    assert low < high < 0


def test_other_truths_and_other_cases_are_refused(tmp_path):
    with pytest.raises(InputError, match="0 cases in common"):
        paired_difference(table([1]), table([1], ids=["x"]), "test")
    with pytest.raises(InputError, match="true age of 0"):
        paired_difference(table([1, 2]), table([1, 2], true=90.0), "test")
    (tmp_path / "p.csv").write_text("id,months\n1,2\n")
    with pytest.raises(InputError, match="no column true_months"):
        read_predictions(tmp_path / "p.csv")
