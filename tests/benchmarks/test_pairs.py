"""A quotient is the median of what ran side by side, and says whether it is good enough."""

import json

from baa.benchmarks.pairs import alternate, quotient
from baa.benchmarks.table import as_json, as_text


def test_the_median_round_decides_and_the_extremes_are_told():
    row = quotient("cache", "bare / ours", [1.0, 1.8, 9.0], [1.0, 2.0, 3.0], 0.9, at_least=True)

    assert (row.ratio, row.low, row.high) == (1.0, 0.9, 3.0)
    assert row.met
    assert not row._replace(at_least=False).met


def test_sides_run_in_turns_and_the_first_round_does_not_count():
    ran = []
    seconds = alternate({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, rounds=3)

    assert "".join(ran) == "baabbaab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_a_table_and_its_json_say_the_same():
    row = quotient("step-boxes", "remembered / ready", [1.02, 1.02], [1.0, 1.0], 1.03)

    assert "| step-boxes | remembered / ready | 1.02 | 1.02 to 1.02 | <= 1.03 | yes |" in as_text([row])
    assert json.loads(as_json([row])) == {"step-boxes": {"ratio": 1.02, "spread": [1.02, 1.02], "must": 1.03, "met": True}}
