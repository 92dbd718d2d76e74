"""The picture of an answer shows the film, the boxes where they are, and heat where it was looked."""

import numpy as np

from baa.plots.overlay import PANEL_PX, TEXT_PX, Drawing, overlay

FILM = np.full((100, 100), 60, np.uint8)
BOXES = np.array([[0.25, 0.5, 0.75, 1.0], [0.1, 0.0, 0.9, 0.5]], np.float32)
HEAD = 3 * TEXT_PX


def drawn(heat, boxes):
    return np.asarray(overlay(Drawing(FILM, heat, boxes, ["12 y", "female"]))).astype(int)[HEAD:]


def test_boxes_are_where_they_were_found_in_their_colours():
    panel = drawn(np.zeros((2, 8, 8)), BOXES)[:, :PANEL_PX]
    quarter, half = PANEL_PX // 4, PANEL_PX // 2
    red, green, blue = panel[PANEL_PX * 3 // 4, quarter]
    assert green > 150 > max(red, blue)
    red, green, blue = panel[half // 2, round(PANEL_PX * 0.1)]
    assert red > 150 > max(green, blue)
    assert (panel[half // 2, half] == 60).all()


def test_heat_is_shown_beside_the_film_and_only_where_it_is():
    heat = np.zeros((2, 8, 8), np.float32)
    heat[0, 6, 2], heat[1, 1, 6] = 3.0, 0.01  # each look counts against its own maximum
    whole = drawn(heat, None)
    coloured = np.ptp(whole, axis=2) > 20
    assert not coloured[:, :PANEL_PX].any()
    assert coloured[round(PANEL_PX * 6.5 / 8), PANEL_PX + round(PANEL_PX * 2.5 / 8)]
    assert coloured[round(PANEL_PX * 1.5 / 8), PANEL_PX + round(PANEL_PX * 6.5 / 8)]
    assert not coloured[:, PANEL_PX:][PANEL_PX // 2].any()


def test_a_network_that_does_not_look_leaves_the_second_half_dark():
    whole = drawn(None, None)
    assert (whole[:, :PANEL_PX] == 60).all()
    assert (whole[:, PANEL_PX:] == 0).all()
