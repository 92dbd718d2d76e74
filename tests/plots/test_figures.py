"""Figures have one row per region, with names and colors from the data."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import ImageColor

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.patient import Sex
from baa.plots.figures import OTHER_COLORS, REGION_COLORS, age_figure, error_figure, localization_figure, region_color, save


@pytest.mark.parametrize("regions", [("carpal",), ("carpal", "hand"), ("carpal", "hand", "thumb")])
def test_the_localization_figure_has_a_row_for_each_region(regions):
    count = len(regions)
    heat, boxes = np.random.default_rng(0).random((2, count, 8, 8)), np.tile([0.1, 0.2, 0.6, 0.7], (2, count, 1))
    gt_boxes = np.full((2, count, 4), np.nan)
    gt_boxes[0] = [0.2, 0.2, 0.8, 0.8]
    figure = localization_figure(np.zeros((2, 8, 8)), heat, boxes, ["a", "b"], regions, gt_boxes)
    first, second = (figure.axes[column::2] for column in (0, 1))

    assert len(figure.axes) == 2 * (1 + count)
    assert [axis.texts[0].get_text() for axis in first] == ["boxes", *(f"heat map: {name}" for name in regions)]
    assert [len(axis.patches) for axis in first] == [2 * count, *[2] * count]  # boxes and annotations
    assert [len(axis.patches) for axis in second] == [count, *[1] * count]
    for row, name in enumerate(regions, start=1):
        color = to_hex(first[row].patches[0].get_edgecolor())
        assert color == to_hex(region_color(name, row - 1))
        assert np.array_equal(first[row].images[1].get_array(), heat[0, row - 1])


def test_region_colors_differ_and_have_names_that_pillow_knows():
    colors = [*REGION_COLORS.values(), *OTHER_COLORS]

    assert len({ImageColor.getrgb(color) for color in colors}) == len(colors)
    assert region_color("hand", 5) == REGION_COLORS["hand"]
    assert region_color("thumb", len(OTHER_COLORS)) == region_color("wrist", 0)


def test_the_error_figure_has_a_row_for_each_subgroup():
    axis = error_figure({"all": (7.1, 6.5, 7.7), "female": (6.0, 5.0, 7.0)}).axes[0]

    assert axis.get_title() == "error by subgroup"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["all", "female"]


@pytest.mark.parametrize("name", ["$\\frac{$", "a_$x^$_b", "$$", "a\x1b[2J\rb", "\udcff.png", "\\$"])
def test_a_name_is_drawn_as_it_is(tmp_path, name):
    heat, boxes = np.zeros((1, 1, 8, 8)), np.tile([0.1, 0.2, 0.6, 0.7], (1, 1, 1))
    save(localization_figure(np.zeros((1, 8, 8)), heat, boxes, [f"{name}, male\n7 months"], ["hand"]), tmp_path / "1.png")
    case = Case(name, Phantom(0, 0, 60.0, Sex.MALE), 60.0, Sex.MALE)
    save(age_figure([case], np.ones(1), f"test: {name}"), tmp_path / "2.png")
