"""A training step asks little of a GPU and never waits for one, counted on a simulated one."""

import pytest
from counted_step import count_small, count_with_line


@pytest.fixture(scope="module")
def process():
    from baa.benchmarks.counts import apart

    with apart() as process:
        yield process


@pytest.mark.parametrize(
    ("name", "erasing", "kernels"),
    [("locator", 0.0, 36), ("estimator-boxes", 0.5, 110), ("estimator-live", 0.0, 240), ("joint", 0.0, 250)],
)
def test_a_step_never_waits_and_asks_for_few_kernels_beside_those_of_its_networks(process, name, erasing, kernels):
    step = process.submit(count_small, name, erasing).result()
    assert not step.waits
    assert step.networks > 100
    assert step.rest <= kernels


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("number", "_local_scalar_dense"),
        ("list", "copy between host and device"),
        ("to the host", "copy between host and device"),
    ],
)
def test_a_line_for_which_the_host_waits_is_found_with_its_place(process, line, reason):
    found = process.submit(count_with_line, line).result().waits
    assert sum(found.values()) == 1
    assert next(iter(found)).startswith(f"{reason} at modules/base.py:")


@pytest.mark.parametrize(
    ("line", "error"),
    [("truth values", "index|nonzero"), ("nonzero", "nonzero"), ("left on the host", "two devices")],
)
def test_a_shape_that_needs_numbers_or_a_tensor_left_on_the_host_ends_the_count(process, line, error):
    with pytest.raises(Exception, match=error):
        process.submit(count_with_line, line).result()


@pytest.mark.slow
def test_the_papers_networks_keep_the_budgets():
    from baa.benchmarks.counts import bench

    rows = {row.name: row for row in bench()}
    assert all(row.met for row in rows.values()), rows
