"""How cost grows: slopes as a log-log plot shows them, of parts that do their work."""

import itertools

import pytest

from baa.benchmarks import costs, growing
from baa.report.figures import Cost


def steps(*costs):
    return [growing.Step(small, large) for small, large in itertools.pairwise(costs)]


def test_a_cost_that_grows_with_the_square_has_slope_two_and_is_not_met():
    costs = [Cost(cases, seconds=3e-6 * cases**2, mebibytes=50.0) for cases in (100, 1_000, 10_000)]
    time, memory = growing._slopes("loader", "", steps(*costs))

    assert (time.ratio, time.low, time.high) == pytest.approx((2, 2, 2))
    assert not time.met
    assert memory.ratio == pytest.approx(0)
    assert memory.met
    assert (time.name, memory.name) == ("growth-loader", "growth-loader-memory")


def test_the_steepest_stretch_decides():
    costs = [Cost(100, 1.0, 50.0), Cost(1_000, 20.0, 500.0), Cost(10_000, 200.0, 500.0)]
    time, memory = growing._slopes("cache", "-real", steps(*costs))

    assert time.ratio == pytest.approx(1.301, abs=1e-3)
    assert memory.ratio == pytest.approx(1)
    assert not time.met
    assert not memory.met


def test_a_machine_that_slows_down_meanwhile_does_not_look_like_growth(tmp_path, monkeypatch):
    slowness = iter([1.0, 1.25, 1.5, 1.5, 1.75, 2.0])
    monkeypatch.setattr(growing, "_cost", lambda part, count, films, passes=1: Cost(count, count * next(slowness), 50.0))
    time, _ = growing._slopes("crops", "", growing._steps("crops", (100, 1_000, 10_000), tmp_path))

    assert time.high == pytest.approx(1.0)


def test_epochs_of_few_cases_are_repeated_until_they_make_up_for_the_many(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(growing, "_cost", lambda *arguments: asked.append(arguments) or Cost(arguments[1], 1.0, 50.0))
    growing._steps("step", (100, 1_000), tmp_path)
    growing._steps("cache", (100, 1_000), tmp_path)

    assert asked[:3] == [("step", 100, tmp_path, 5), ("step", 1_000, tmp_path), ("step", 100, tmp_path, 5)]
    assert {arguments[3] for arguments in asked[3:] if len(arguments) == 4} == {1}


@pytest.mark.parametrize("part", costs.PARTS)
def test_every_part_works(part, tmp_path, capsys):
    from baa.benchmarks.loading import write_films

    films = tmp_path / "films"
    films.mkdir()
    write_films(films, growing.FILM_PX, 3)
    costs.print_cost(part, 5, str(films))
    seconds, mebibytes = map(float, capsys.readouterr().out.split()[-2:])

    assert seconds > 0
    assert mebibytes > 10
