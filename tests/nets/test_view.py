"""Every picture of a view is one resampling of its source, in the right place."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from baa.nets.view import View, about_center, affine_of, average, black_out, invert, resample, within

TURNS = list(itertools.product(range(4), (False, True)))
QUARTERS = torch.tensor([quarters for quarters, _ in TURNS])
MIRRORED = torch.tensor([mirrored for _, mirrored in TURNS])


def crop(view, boxes, px, max_side):
    """A box [B, 4] of each view."""
    return view.crops(boxes[:, None], [(px, max_side)])[0]


@pytest.fixture
def source():
    """Two smooth pictures [2, 1, 64, 64]."""
    return F.interpolate(torch.rand(2, 1, 8, 8), size=(64, 64), mode="bicubic").clamp(0, 1)


def rotation(degrees, scale=1.0, shift=(0.0, 0.0), count=2):
    """An affine map about the center, computed by hand."""
    cos, sin = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    linear = torch.tensor([[cos, -sin], [sin, cos]])
    middle = torch.tensor([0.5, 0.5])
    offset = middle - linear @ middle + torch.tensor(shift)
    top = torch.cat([linear, offset[:, None]], dim=1)
    return torch.cat([top, torch.tensor([[0.0, 0.0, 1.0]])]).expand(count, 3, 3)


FLIP = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).expand(2, 3, 3)


def test_the_identity_at_the_sources_size_is_the_source(source):
    assert_close(View.of(source).render(64), source)


def test_a_view_at_half_size_averages_pixels():
    stripes = (torch.arange(64) % 2).float().expand(64, 64)[None, None]
    assert_close(View.of(stripes).render(32), torch.full((1, 1, 32, 32), 0.5))


def test_a_crop_at_the_sources_resolution_is_a_slice(source):
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1.0]]).expand(2, 4)
    assert_close(crop(View.of(source), boxes, 32, 0.5), source[:, :, 32:, 16:48])


def test_an_affine_map_of_90_degrees_rotates_by_90_degrees(source):
    assert_close(resample(source, rotation(90), 64), torch.rot90(source, 1, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("px", "samples"), [(64, 1), (25, 3), (7, 1)])
def test_resampling_is_bilinear_at_the_centers_of_pixels_and_black_outside(source, px, samples):
    affine = rotation(13, 0.9, (0.3, -0.02))
    u = (torch.arange(px * samples) + 0.5) / (px * samples)
    places = torch.stack([u.expand(len(u), -1), u[:, None].expand(-1, len(u)), torch.ones(len(u), len(u))], dim=-1)
    grid = 2 * torch.einsum("bij,rcj->brci", affine, places)[..., :2] - 1
    expected = F.avg_pool2d(F.grid_sample(source, grid, align_corners=False), samples)

    assert (expected == 0).any()
    assert_close(resample(source, affine, px, samples), expected, atol=1e-5, rtol=0)


def test_a_crop_of_a_rotated_view_is_the_crop_of_its_picture(source):
    view = View.of(source)._replace(affine=rotation(13, 0.9, (0.03, -0.02)))
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4)
    assert_close(crop(view, boxes, 32, 0.5), view.render(64)[:, :, 16:48, 16:48], atol=1e-4, rtol=0)


def test_contrast_and_brightness_are_applied_to_every_picture(source):
    view = View.of(source)._replace(contrast=torch.tensor([0.5, 1.0]), brightness=torch.tensor([0.1, 0.0]))
    assert_close(view.render(64), torch.stack([source[0] * 0.5 + 0.1, source[1]]))


def test_an_erased_rectangle_is_black_in_the_view_and_nothing_else_is(source):
    view = View.of(source + 1)._replace(erased=torch.tensor([[0.0, 0.5, 0.5, 1.0], [torch.nan] * 4]))
    assert view.render(64)[0, :, 32:, :32].amax() == 0
    assert (view.render(64) == 0).sum() == 32 * 32


def test_an_erased_rectangle_is_black_in_a_crop_too(source):
    view = View.of(source + 1)._replace(erased=torch.tensor([[0.0, 0.5, 0.5, 1.0], [torch.nan] * 4]))
    crops = crop(view, torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4), 32, 0.5)

    assert (crops[0, 0, 16:, :16] == 0).all()
    assert (crops[0, 0, :16] > 0).all()
    assert (crops[0, 0, :, 16:] > 0).all()
    assert (crops[1] > 0).all()


def test_crops_that_are_cut_together_are_those_cut_alone(source):
    erased = torch.tensor([[0.3, 0.4, 0.6, 0.9], [torch.nan] * 4])
    view = View.of(source + 1)._replace(affine=rotation(13, 0.9, (0.03, -0.02)), erased=erased)
    boxes, sizes = torch.tensor([[[0.1, 0.2, 0.6, 0.7], [0.4, 0.3, 0.9, 0.8]]] * 2), [(32, 0.5), (24, 0.6)]
    for together, box, size in zip(view.crops(boxes, sizes), boxes.unbind(dim=1), sizes, strict=True):
        assert torch.equal(together, crop(view, box, *size))
        assert (together[0] == 0).any()


def test_boxes_of_the_source_move_with_the_view(source):
    """Centers map back exactly, sides scale, and several boxes per image move as each alone."""
    view = View.of(source)._replace(affine=rotation(20, 1.1, (0.05, 0.0)) @ FLIP)
    boxes = torch.tensor([[0.3, 0.4, 0.5, 0.6], [0.1, 0.6, 0.4, 0.9]])
    moved = view.boxes_from_source(boxes)
    middle = torch.cat([(moved[:, :2] + moved[:, 2:]) / 2, torch.ones(2, 1)], dim=1)

    assert_close((view.affine @ middle[:, :, None])[:, :2, 0], (boxes[:, :2] + boxes[:, 2:]) / 2)
    assert_close((moved[:, 2:] - moved[:, :2]) * 1.1, boxes[:, 2:] - boxes[:, :2])
    assert_close(view.boxes_from_source(torch.stack([boxes, boxes.flip(0)], dim=1))[:, 0], moved)


def test_crops_are_differentiable_in_the_boxes(source):
    view = View.of(source.double())
    boxes = torch.tensor(
        [[0.2137, 0.3311, 0.5223, 0.6419], [0.1171, 0.2039, 0.5717, 0.6653]], dtype=torch.double, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda b: crop(view, b, 8, 0.5), boxes, eps=1e-8, atol=1e-4)


def test_places_of_a_box_are_places_of_its_picture_moved_as_the_picture_is():
    half_size = affine_of(0.5 * torch.eye(2)[None], torch.tensor([[0.25, 0.0]]))
    affine = within(half_size, torch.tensor([[[0.1, 0.2]]]), torch.tensor([[[0.3, 0.6]]]))[:, 0]
    corners = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]).T[None]
    assert_close(affine @ corners, torch.tensor([[[0.3, 0.45], [0.1, 0.4]]]))


def test_black_out_blackens_the_box_and_nothing_else():
    view = black_out(torch.ones(1, 1, 20, 20), torch.tensor([[0.5, 0.2, 0.75, 0.4]]))

    expected = torch.ones(20, 20)
    expected[4:8, 10:15] = 0
    assert_close(view[0, 0], expected)


def test_the_average_is_that_of_blocks(source):
    assert_close(average(source, 4), F.avg_pool2d(source, 4))


def test_an_inverse_undoes_a_map():
    affine = affine_of(torch.randn(50, 2, 2).double() + 2 * torch.eye(2), torch.randn(50, 2).double())
    assert_close(invert(affine), torch.linalg.inv(affine))
    assert torch.equal(invert(torch.eye(3)[None])[0], torch.eye(3))


def test_the_center_stays_in_its_place():
    center = torch.tensor([0.5, 0.5, 1.0])[:, None]
    assert_close(about_center(torch.randn(9, 2, 2)) @ center, center.expand(9, 3, 1))


def test_pictures_are_rotated_counterclockwise_then_mirrored():
    picture = torch.rand(1, 1, 20, 20)
    turned = View.of(picture.repeat(len(TURNS), 1, 1, 1)).turned(QUARTERS, MIRRORED).render(20)
    for (quarters, mirrored), found in zip(TURNS, turned, strict=True):
        expected = torch.rot90(picture[0], quarters, dims=(1, 2))
        assert_close(found, expected.flip(2) if mirrored else expected, atol=1e-5, rtol=0)


def test_a_view_may_be_turned_twice():
    """By a quarter and mirrored, then the same again: the mirror image reverses the second rotation."""
    view, quarter, mirrored = View.of(torch.rand(1, 1, 20, 20)), torch.tensor([1]), torch.tensor([True])
    assert torch.equal(view.turned(quarter, mirrored).turned(quarter, mirrored).affine, view.affine)


def test_an_erased_rectangle_turns_with_the_view():
    view = View.of(torch.ones(len(TURNS), 1, 20, 20))._replace(erased=torch.tensor([[0.1, 0.4, 0.3, 0.9]] * len(TURNS)))
    expected = View.of(view.render(20)).turned(QUARTERS, MIRRORED)
    assert_close(view.turned(QUARTERS, MIRRORED).render(20), expected.render(20))
    assert view._replace(erased=view.erased * torch.nan).turned(QUARTERS, MIRRORED).erased.isnan().all()


def test_boxes_and_heat_maps_of_a_turned_view_are_where_their_pixels_lie_in_the_source():
    picture = torch.zeros(len(TURNS), 1, 20, 20)
    picture[..., 2:6, 8:15] = 1
    view = View.of(picture).turned(QUARTERS, MIRRORED)
    found = []
    for turned in view.render(20):
        rows, columns = (turned[0] > 0.5).nonzero().T
        found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    boxes = torch.tensor(found)[:, None].repeat(1, 2, 1) / 20
    assert len(boxes.unique(dim=0)) == len(TURNS)
    for box in view.boxes_in_source(boxes).flatten(0, 1):
        assert box.tolist() == pytest.approx([8 / 20, 2 / 20, 15 / 20, 6 / 20])

    heat = torch.rand(1, 2, 7, 7)
    turned = torch.cat(
        [torch.rot90(heat, q, dims=(2, 3)).flip(3) if m else torch.rot90(heat, q, dims=(2, 3)) for q, m in TURNS]
    )
    assert torch.equal(view.maps_in_source(turned), heat.expand(len(TURNS), 2, 7, 7))


class Pictures(torch.nn.Module):
    """A picture of the whole view and a crop that shrinks."""

    def forward(self, source, boxes):
        view = View.of(source)
        return view.render(20), crop(view, view.boxes_from_source(boxes), 12, 0.5)


def test_pictures_are_exported_for_any_number_of_radiographs(source):
    boxes = torch.tensor([[0.25, 0.3, 0.75, 0.8], [0.1, 0.2, 0.5, 0.6]])
    batch = torch.export.Dim("batch")
    program = torch.export.export(Pictures(), (source, boxes), dynamic_shapes={"source": {0: batch}, "boxes": {0: batch}})
    more = torch.rand(5, 1, 64, 64), torch.rand(5, 4).sort(dim=1).values
    assert_close(program.module()(*more), Pictures()(*more))


@pytest.mark.slow
def test_pictures_are_the_same_in_onnx(source, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    boxes = torch.tensor([[0.25, 0.3, 0.75, 0.8], [0.1, 0.2, 0.5, 0.6]])
    torch.onnx.export(
        Pictures().eval(),
        (source, boxes),
        tmp_path / "pictures.onnx",
        input_names=["source", "boxes"],
        dynamic_shapes={"source": {0: "batch"}, "boxes": {0: "batch"}},
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "pictures.onnx"), providers=["CPUExecutionProvider"])
    more = {"source": torch.rand(3, 1, 64, 64), "boxes": torch.rand(3, 4).sort(dim=1).values}
    found = session.run(None, {name: value.numpy() for name, value in more.items()})
    for expected, picture in zip(Pictures()(**more), found, strict=True):
        assert_close(torch.from_numpy(picture), expected, atol=1e-4, rtol=0)
