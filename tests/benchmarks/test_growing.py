"""How cost grows: slopes of a log-log plot. Every part of the benchmark runs."""

import itertools

import pytest

from baa.benchmarks import costs, growing


def steps(*costs):
    return [growing.Step(small, large) for small, large in itertools.pairwise(costs)]


def test_a_quadratic_cost_has_slope_two_and_exceeds_the_limit():
    costs = [growing.Cost(cases, seconds=3e-6 * cases**2, mebibytes=50.0) for cases in (100, 1_000, 10_000)]
    time, memory = growing._slopes("loader", "", steps(*costs))

    assert (time.ratio, time.low, time.high) == pytest.approx((2, 2, 2))
    assert not time.met
    assert memory.ratio == pytest.approx(0)
    assert memory.met
    assert (time.name, memory.name) == ("growth-loader", "growth-loader-memory")


def test_the_steepest_step_counts():
    costs = [growing.Cost(100, 1.0, 50.0), growing.Cost(1_000, 20.0, 500.0), growing.Cost(10_000, 200.0, 500.0)]
    time, memory = growing._slopes("cache", "-real", steps(*costs))

    assert time.ratio == pytest.approx(1.301, abs=1e-3)
    assert memory.ratio == pytest.approx(1)
    assert not time.met
    assert not memory.met


def test_a_machine_that_slows_down_does_not_change_the_slope(tmp_path, monkeypatch):
    slowness = iter([1.0, 1.25, 1.5, 1.5, 1.75, 2.0])
    monkeypatch.setattr(growing, "_printed", lambda function, part, count, films: (count * next(slowness), 50.0))
    time, _ = growing._slopes("cache", "", growing._steps("cache", (100, 1_000, 10_000), tmp_path))

    assert time.high == pytest.approx(1.0)


def test_epochs_alternate_until_the_long_one_is_complete(tmp_path, monkeypatch, capsys):
    ran = []

    def part(files, folder):
        def epoch():
            for _ in range(0, len(files), costs.BATCH):
                ran.append(len(files))
                yield

        return epoch

    monkeypatch.setitem(costs.PARTS, "step", part)
    monkeypatch.setattr(costs, "_films", lambda folder, count: [None] * count)
    ticks = iter(range(1000))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(ticks))
    costs.print_seconds("step", 32, 80, str(tmp_path))

    assert ran == [80, 32] * 5
    assert capsys.readouterr().out.split() == ["2.0", "5.0"]  # a second a batch: two of 32 cases, five of 80


@pytest.mark.parametrize("part", costs.PARTS)
def test_every_part_runs(part, tmp_path, capsys):
    from baa.benchmarks.loading import write_films

    films = tmp_path / "films"
    films.mkdir()
    write_films(films, growing.FILM_PX, 3)
    costs.print_cost(part, 5, str(films))
    seconds, mebibytes = map(float, capsys.readouterr().out.split()[-2:])

    assert seconds > 0
    assert mebibytes > 10
