"""The picture of a prediction shows the radiograph, the boxes in their colors, and the heat maps."""

import numpy as np

from baa.plots.overlay import PANEL_PX, TEXT_PX, Drawing, overlay

RADIOGRAPH = np.full((100, 100), 60, np.uint8)
BOXES = np.array([[0.25, 0.5, 0.75, 1.0], [0.1, 0.0, 0.9, 0.5]], np.float32)
REGIONS = ("carpal", "hand")
TEXT_HEIGHT = 3 * TEXT_PX


def drawn(heat, boxes, regions=REGIONS):
    drawing = Drawing(film=RADIOGRAPH, heat=heat, boxes=boxes, lines=["12 y", "female"], regions=regions)
    return np.asarray(overlay(drawing)).astype(int)[TEXT_HEIGHT:]


def test_boxes_are_in_their_place_and_color():
    panel = drawn(np.zeros((2, 8, 8)), BOXES)[:, :PANEL_PX]
    quarter, half = PANEL_PX // 4, PANEL_PX // 2
    red, green, blue = panel[PANEL_PX * 3 // 4, quarter]
    assert green > 150 > max(red, blue)
    red, green, blue = panel[half // 2, round(PANEL_PX * 0.1)]
    assert red > 150 > max(green, blue)
    assert (panel[half // 2, half] == 60).all()


def test_a_third_region_is_drawn_in_its_own_color():
    third = np.array([[0.4, 0.6, 0.6, 0.8]], np.float32)
    panel = drawn(np.zeros((3, 8, 8)), np.concatenate([BOXES, third]), (*REGIONS, "thumb"))[:, :PANEL_PX]
    color = panel[round(PANEL_PX * 0.7), round(PANEL_PX * 0.4)]
    others = [panel[PANEL_PX * 3 // 4, PANEL_PX // 4], panel[PANEL_PX // 4, round(PANEL_PX * 0.1)]]

    assert np.ptp(color) > 150
    assert not any((color == other).all() for other in others)


def test_heat_is_beside_the_radiograph_and_only_where_the_maps_are_hot():
    heat = np.zeros((2, 8, 8), np.float32)
    heat[0, 6, 2], heat[1, 1, 6] = 3.0, 0.01  # each map is scaled to its own maximum
    picture = drawn(heat, None)
    colored = np.ptp(picture, axis=2) > 20
    assert not colored[:, :PANEL_PX].any()
    assert colored[round(PANEL_PX * 6.5 / 8), PANEL_PX + round(PANEL_PX * 2.5 / 8)]
    assert colored[round(PANEL_PX * 1.5 / 8), PANEL_PX + round(PANEL_PX * 6.5 / 8)]
    assert not colored[:, PANEL_PX:][PANEL_PX // 2].any()


def test_without_a_locator_the_second_half_is_black():
    picture = drawn(None, None, ())
    assert (picture[:, :PANEL_PX] == 60).all()
    assert (picture[:, PANEL_PX:] == 0).all()
