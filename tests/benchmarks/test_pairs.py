"""A quotient is the median over rounds, and is compared with its limit."""

import json

import forked
import pytest

from baa.benchmarks.pairs import alternate, quotient
from baa.benchmarks.table import as_json, as_line


def test_a_row_has_the_median_and_the_extremes_of_the_rounds():
    row = quotient("cache", "bare / ours", [1.0, 1.8, 9.0], [1.0, 2.0, 3.0], 0.9, at_least=True)

    assert (row.ratio, row.low, row.high) == (1.0, 0.9, 3.0)
    assert row.met
    assert not row._replace(at_least=False).met


def test_sides_alternate_and_the_first_round_does_not_count():
    ran = []
    seconds = alternate({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, rounds=3)

    assert "".join(ran) == "baabbaab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_a_table_and_its_json_have_the_same_values():
    row = quotient("step-boxes", "cached / ready", [1.02, 1.02], [1.0, 1.0], 1.03)

    assert as_line(row) == "| step-boxes | cached / ready | 1.02 | 1.02 to 1.02 | <= 1.03 | yes |"
    assert json.loads(as_json([row])) == {"step-boxes": {"ratio": 1.02, "spread": [1.02, 1.02], "must": 1.03, "met": True}}


def test_every_name_that_the_command_takes_is_a_benchmark():
    from baa import bench
    from baa.benchmarks import costs
    from baa.benchmarks.table import benchmarks

    assert tuple(benchmarks()) == bench.NAMES
    assert tuple(bench.GROWING.values()) == tuple(costs.PARTS)
    assert set(bench.PARTS.values()) <= set(bench.NAMES)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["growth", "--radiographs", "nowhere.tar"], "--radiographs: nowhere.tar does not exist"),
        (["loader", "--deeplasia", "nowhere"], "--deeplasia: nowhere does not exist"),
        (["crops", "--json", "nowhere/speed.json"], "--json: nowhere is not a folder"),
    ],
)
def test_a_wrong_path_is_an_error_before_anything_is_measured(arguments, error):
    done = forked.run(["-m", "baa.bench", *arguments])

    assert done.returncode == 2
    assert error in done.stderr
    assert "Traceback" not in done.stderr
