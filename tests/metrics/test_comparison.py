"""Paired differences against values computed by hand."""

import pandas as pd
import pytest

from baa.errors import InputError
from baa.metrics.comparison import paired_difference, read_predictions


def table(errors, ids=None, true=100.0):
    ids = ids or [str(i) for i in range(len(errors))]
    return pd.DataFrame({"id": ids, "true_months": true, "predicted_months": [true + e for e in errors]}).set_index("id")


def test_the_difference_uses_the_common_cases():
    result = paired_difference(table([1, -2, 3, 50]), table([-2, 4, 4], ids=["0", "1", "2"]), "test")

    assert result["test/paired_cases"] == 3
    assert result["test/mae_difference"] == pytest.approx((1 + 2 + 3) / 3 - (2 + 4 + 4) / 3)


def test_pairing_finds_a_small_difference():
    noise = [(i * 37 % 41) - 20 for i in range(200)]
    low, high = paired_difference(table(noise), table([e * 1.1 for e in noise]), "test")["test/mae_difference_ci"]
    assert low < high < 0


def test_other_ages_and_other_cases_are_refused(tmp_path):
    with pytest.raises(InputError, match="--against: 0 cases in common"):
        paired_difference(table([1]), table([1], ids=["x"]), "test")
    with pytest.raises(InputError, match="--against: the true age of 0 differs"):
        paired_difference(table([1, 2]), table([1, 2], true=90.0), "test")
    (tmp_path / "p.csv").write_text("id,months\n1,2\n")
    with pytest.raises(InputError, match="p.csv: no column true_months; give a predictions.csv"):
        read_predictions(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("id,true_months,predicted_months\n1,2,3\n1,2,3\n")
    with pytest.raises(InputError, match="p.csv: id 1 is repeated"):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(InputError, match="none.csv: no such file"):
        read_predictions(tmp_path / "none.csv")
