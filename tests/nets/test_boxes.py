"""Heat map to box, against boxes computed by hand."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from torch.testing import assert_close

from baa.nets.boxes import BESIDE, HEAT_GRID, LONG_SHIFTS, BoxFinder, Span, flood, hottest, square_inside

FINDER = BoxFinder()


def lowest_mode(heat, threshold, *radius):
    return FINDER.lowest_mode(heat, FINDER.peak(heat), threshold, *radius)


def bump(x, y, width=0.1, cells=HEAT_GRID):
    grid = (torch.arange(cells) + 0.5) / cells
    return torch.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2))[None]


def test_the_peak_is_at_the_center_of_a_bump():
    assert_close(FINDER.peak(bump(0.3, 0.7)), torch.tensor([[0.3, 0.7]]), atol=0.03, rtol=0)


def test_the_peak_span_encloses_the_half_maximum_of_the_highest_bump_only():
    heat = torch.maximum(bump(0.3, 0.7), 0.9 * bump(0.8, 0.2))
    half_width = 0.1 * (2 * torch.log(torch.tensor(2.0))).sqrt()
    center, half = FINDER.peak_span(heat, threshold=0.5, margin=0.0)

    assert_close(center, torch.tensor([[0.3, 0.7]]), atol=0.02, rtol=0)
    assert_close(half, half_width.expand(1, 2), atol=0.02, rtol=0)


def test_the_lowest_mode_is_the_lowest_bump_that_is_hot_enough():
    bumps = bump(0.4, 0.2, 0.05), 0.6 * bump(0.6, 0.7, 0.05), 0.35 * bump(0.3, 0.9, 0.05)
    heat = torch.stack([*bumps, torch.full_like(bumps[0], 0.26)]).amax(dim=0)
    for threshold, expected in ((0.5, (0.6, 0.7)), (0.9, (0.4, 0.2)), (0.3, (0.3, 0.9))):
        assert_close(lowest_mode(heat, threshold), torch.tensor([expected]), atol=0.05, rtol=0)


def test_a_mode_is_a_hottest_cell_and_not_the_lowest_hot_one():
    found = lowest_mode(bump(0.5, 0.5, 0.2), 0.3, 0.03)  # too narrow to climb from the edge
    assert_close(found, torch.tensor([[0.5, 0.5]]), atol=0.02, rtol=0)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_mode_beside_the_hand_is_none(side):
    for distance, found in ((BESIDE + 0.05, (0.5, 0.2)), (BESIDE - 0.05, (0.5 + side * (BESIDE - 0.05), 0.8))):
        heat = torch.maximum(bump(0.5, 0.2, 0.05), 0.8 * bump(0.5 + side * distance, 0.8, 0.05))
        assert_close(lowest_mode(heat, 0.5), torch.tensor([found]), atol=0.04, rtol=0)


def test_a_wide_mean_shift_takes_in_a_neighbor_that_a_narrow_one_leaves_out():
    heat = torch.maximum(bump(0.5, 0.7, 0.02), bump(0.5, 0.6, 0.02))
    narrow, wide = (lowest_mode(heat, 0.5, radius)[0, 1].item() for radius in (0.05, 0.15))
    assert narrow == pytest.approx(0.7, abs=0.01)
    assert wide == pytest.approx(0.65, abs=0.01)


def test_mean_shift_climbs_to_the_middle_of_a_bump_and_is_differentiable():
    heat = bump(0.5, 0.6, 0.05).double().requires_grad_()
    found = FINDER.mean_shift(heat, torch.tensor([[0.55, 0.55]]).double(), 0.14)

    assert_close(found.detach(), torch.tensor([[0.5, 0.6]]).double(), atol=0.01, rtol=0)
    assert torch.autograd.gradcheck(lambda h: FINDER.mean_shift(h, torch.tensor([[0.53, 0.57]]).double(), 0.14), heat)


def test_mean_shift_takes_longer_steps_before_the_last():
    heat, start = bump(0.5, 0.6, 0.3), torch.tensor([[0.5, 0.5]])
    x, y = FINDER.middles
    near = heat[0] * ((y - 0.5) ** 2 + (x - 0.5) ** 2 <= 0.1**2)
    step = ((near * y).sum() / near.sum() - 0.5).item()

    assert FINDER.mean_shift(heat, start, 0.1)[0, 1].item() - 0.5 == pytest.approx((sum(LONG_SHIFTS) + 1) * step, rel=0.3)
    assert step > 0.001


def test_the_box_about_a_point_is_as_wide_as_the_heat_there():
    heat = torch.maximum(bump(0.5, 0.7, 0.03), bump(0.5, 0.2, 0.1))
    center, half = FINDER.window_span(heat, torch.tensor([[0.5, 0.7]]), extent=2.0)

    assert_close(center, torch.tensor([[0.5, 0.7]]))
    assert_close(half, torch.tensor([[0.06, 0.06]]), atol=0.01, rtol=0)


def test_the_margin_is_added_on_each_side():
    tight, wide = (FINDER.peak_span(bump(0.5, 0.5), threshold=0.5, margin=margin) for margin in (0.0, 0.1))
    assert_close(wide.center, tight.center)
    assert_close(wide.half - tight.half, torch.tensor([[0.1, 0.1]]))


def test_the_moments_span_is_mean_and_standard_deviation_of_the_sharpened_map():
    center, half = FINDER.moments_span(bump(0.4, 0.6), sharpness=4.0, extent=2.0)

    assert_close(center, torch.tensor([[0.4, 0.6]]), atol=0.005, rtol=0)
    assert_close(half, torch.full((1, 2), 2 * 0.1 / 4**0.5), atol=0.005, rtol=0)  # to the fourth power, half the deviation


def test_a_single_hot_cell_is_as_wide_as_heat_that_fills_it():
    heat = torch.zeros(1, 20, 20)
    heat[0, 3, 8] = 1.0
    center, half = BoxFinder(20).moments_span(heat, sharpness=1.0, extent=1.0)

    assert_close(center, torch.tensor([[8.5 / 20, 3.5 / 20]]))
    assert_close(half, torch.full((1, 2), 1 / 20 / 12**0.5), atol=1e-4, rtol=0)


def test_mean_shift_stays_in_the_image_where_there_is_no_heat():
    found = FINDER.mean_shift(torch.zeros(1, 48, 48), torch.tensor([[0.3, 0.6]]), 0.1)
    assert_close(found, torch.tensor([[0.3, 0.6]]), atol=0.03, rtol=0)


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_a_map_without_heat_has_finite_gradients(sharpness):
    """Joint training takes a typical box in its place: what reaches the map is zero, and zero times infinity is NaN."""
    heat, points = torch.zeros(1, 48, 48, requires_grad=True), torch.tensor([[0.5, 0.5]])
    spans = FINDER.moments_span(heat, sharpness=sharpness, extent=2.0), FINDER.window_span(heat, points, 2.0)
    shifted = FINDER.mean_shift(heat, points, 0.1)
    (0.0 * sum(part.sum() for span in spans for part in span) + 0.0 * shifted.sum()).backward()

    assert torch.equal(heat.grad, torch.zeros_like(heat))


def test_the_moments_span_is_differentiable_in_the_map():
    heat = bump(0.4, 0.6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: tuple(FINDER.moments_span(h, sharpness=2.0, extent=2.0)), heat)


def test_maps_that_are_flat_not_finite_or_hottest_at_the_edge_have_no_peak():
    flat = torch.full((1, 48, 48), 0.3)
    not_finite = bump(0.5, 0.5).clone()
    not_finite[0, 3, 3] = float("nan")
    at_edges = [bump(x, y) for x, y in ((0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0))]
    near = bump(1.5 / HEAT_GRID, 0.5)
    maps = torch.cat([flat, torch.zeros(1, 48, 48), not_finite, *at_edges, near, bump(0.5, 0.5)])

    for scale in (1.0, 1e-9):
        found = FINDER.has_peak(scale * maps, hottest(maps))
        assert found.tolist() == [False] * 7 + [True] * 2


def test_a_coarse_map_has_no_peak_within_half_of_its_cells_of_the_edge():
    coarse = torch.rand(1, 12, 12)
    for depth, sure in ((0, False), (1, False), (2, True)):
        for cell in (24 * HEAT_GRID + depth, (HEAT_GRID - 1 - depth) * HEAT_GRID + 24):
            assert FINDER.has_peak(coarse, torch.tensor([cell])).item() is sure


def test_a_map_with_an_infinite_value_has_no_peak():
    heat = bump(0.5, 0.5)
    heat[0, 3, 3] = torch.inf
    assert not FINDER.has_peak(heat, torch.tensor([24 * HEAT_GRID + 24])).item()


def test_squares_keep_their_center_and_are_moved_inside_the_image():
    center = torch.tensor([[0.5, 0.5], [0.0, 0.05], [0.5, 0.5]])
    half = torch.tensor([[0.1, 0.2], [0.1, 0.05], [0.01, 0.01]])
    expected = torch.tensor([[0.3, 0.3, 0.7, 0.7], [0.0, 0.0, 0.2, 0.2], [0.4, 0.4, 0.6, 0.6]])

    assert_close(square_inside(Span(center, half), min_side=0.2, max_side=0.5), expected)


def test_a_prior_selects_the_nearer_of_two_equal_bumps():
    heat = torch.maximum(bump(0.5, 0.2), bump(0.5, 0.7))
    assert FINDER.peak(FINDER.apply_prior(heat, torch.tensor([[0.5, 0.65]]), 0.2))[0, 1].item() == pytest.approx(0.7, abs=0.05)
    assert FINDER.peak(FINDER.apply_prior(heat, torch.tensor([[0.5, 0.25]]), 0.2))[0, 1].item() == pytest.approx(0.2, abs=0.05)


def test_with_a_floor_the_prior_decides_where_the_map_is_zero():
    heat = bump(0.5, 0.1, width=0.05)
    for floor, expected in ((0.0, 0.3), (0.05, 0.7)):
        found = FINDER.peak(FINDER.apply_prior(heat, torch.tensor([[0.5, 0.7]]), 0.1, floor))
        assert found[0, 1].item() == pytest.approx(expected, abs=0.15)


def test_a_flood_fills_a_winding_region_and_no_other():
    hot = torch.zeros(1, 48, 48, dtype=torch.bool)
    hot[0, 4:40, 4] = hot[0, 39, 4:30] = hot[0, 10:40, 29] = True  # a U
    winding = hot.clone()
    hot[0, 4:8, 40:44] = True
    seed = torch.zeros_like(hot)
    seed[0, 4, 4] = True

    assert torch.equal(flood(hot, seed), winding)
    assert not flood(hot, torch.zeros_like(hot)).any()


def serpentine():
    """Cells [48, 48] that run to and fro through the whole grid."""
    path = torch.zeros(48, 48, dtype=torch.bool)
    path[::2] = True
    path[1:46:4, -1] = path[3:46:4, 0] = True
    return path


@pytest.mark.parametrize("turn", range(4))
def test_a_flood_follows_the_longest_path_to_its_end(turn):
    path = serpentine().rot90(turn)[None].contiguous()
    for start in (0, -1):
        seed = torch.zeros_like(path)
        seed[0].view(-1)[path[0].view(-1).nonzero()[start]] = True
        assert torch.equal(flood(path, seed), path)


def test_a_flood_keeps_the_components_of_random_maps_that_hold_a_seed():
    shares = torch.tensor([0.2, 0.35, 0.4, 0.41, 0.45, 0.6]).repeat(20)[:, None, None]  # regions wind most at 0.41
    hot, seed = torch.rand(120, 48, 48) < shares, torch.rand(120, 48, 48) < 0.003
    for cells, seeds, found in zip(hot.numpy(), seed.numpy(), flood(hot, seed).numpy(), strict=True):
        component, _ = label(cells, np.ones((3, 3)))
        assert (found == (np.isin(component, component[seeds & cells]) & cells)).all()
