"""`crops`: both crops of each image, against single forward passes and against pytorch-grad-cam with OpenCV."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from baa.benchmarks.inputs import untrained
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.benchmarks.processes import printed_numbers
from baa.checkpoints.load import load_model
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.model_card import SHIPPED_IN
from baa.nets.cropper import RegionCropper
from baa.nets.locator import Locator
from baa.nets.regions import Region
from baa.nets.view import View

BATCH, SOURCE_PX, PX = 16, 640, 300
SAME = 0.05
RESET_PEAK = "5"
"""Written to /proc/self/clear_refs, it resets the peak resident size (Linux)."""

MAPPED_FROM_BYTES = "131072"
"""glibc's default threshold. Setting it keeps glibc from raising it."""


def bench() -> list[Row]:
    """Measure the paper's locator. Two forward passes are the minimum for two regions; the rest should cost next to nothing."""
    cropper, film, view = _inputs()
    peer = peer_crops(cropper)
    require_same_crops()
    seconds = alternate(
        {"forward": lambda: _forward(cropper, view), "ours": lambda: cropper(film), "peer": lambda: peer(film.source)}
    )
    memory = sorted(_peak_kib("ours") / _peak_kib("forward") for _ in range(3))
    return [
        quotient("crops", "both crops / one forward pass of the locator", seconds["ours"], seconds["forward"], 2.15),
        quotient("crops-peer", "pytorch-grad-cam + OpenCV / baa", seconds["peer"], seconds["ours"], 3.0, at_least=True),
        Row("crops-memory", "peak memory: both crops / one forward pass", memory[1], memory[0], memory[2], 1.25),
        *_attention(film),
    ]


def _attention(film: View) -> list[Row]:
    """Measure the packaged model, which reads heat maps of middle layers, without and with mirror images."""
    cropper = load_model(SHIPPED_IN).model.cropper
    assert cropper is not None
    cropper.to(memory_format=torch.channels_last)
    view = film.render(cropper.locator.px).contiguous(memory_format=torch.channels_last)

    def localize(*, flip_average: bool) -> None:
        cropper.regions["carpal"] = cropper.regions["carpal"]._replace(flip_average=flip_average)
        cropper.localize(view)

    plain, flipped = partial(localize, flip_average=False), partial(localize, flip_average=True)
    seconds = alternate({"forward": lambda: _forward(cropper, view), "plain": plain, "flipped": flipped})
    what = "both heat maps of middle layers / one forward pass of the locator"
    mirrored = what.replace("layers", "layers, one averaged with its mirror image's")
    return [
        quotient("crops-attention", what, seconds["plain"], seconds["forward"], 4.0),
        quotient("crops-attention-flip", mirrored, seconds["flipped"], seconds["forward"], 7.5),
    ]


def _inputs() -> tuple[RegionCropper, View, Tensor]:
    """Return the paper's cropper, a batch of phantoms, and the locator's view of it."""
    pixels = [torch.from_numpy(case.image.load(SOURCE_PX).pixels.copy()) for case in phantom_cases(BATCH, seed=0)]
    film = View.of(torch.stack(pixels)[:, None].float() / 255)
    return untrained().cropper, film, film.render(PX).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _forward(cropper: RegionCropper, view: Tensor) -> Tensor:
    return cropper.locator.backbone(view)


def peer_crops(cropper: RegionCropper) -> Callable[[Tensor], dict[str, np.ndarray]]:
    """Build the common implementation of the same task: pytorch-grad-cam per batch, boxes and crops by OpenCV per image.

    Raises:
        InputError: a peer package is not installed.
    """
    try:
        import cv2
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise InputError(f"crops: {error.name} is not installed; pip install -e '.[bench]'") from error

    class Months(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.locator = cropper.locator

        def forward(self, view: Tensor) -> Tensor:
            return self.locator(view).months[:, None]

    def box(heat: np.ndarray, region: Region) -> tuple[int, int, int]:
        hot = (heat >= cropper.threshold * heat.max()).astype(np.uint8)
        _, labels = cv2.connectedComponents(hot, connectivity=8)
        rows, columns = np.nonzero(labels == labels[np.unravel_index(heat.argmax(), heat.shape)])
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        side = np.clip((high - low).max() / len(heat) + 2 * cropper.margin, region.min_side, region.max_side)
        corner = ((low + high) / 2 / len(heat)).clip(side / 2, 1 - side / 2) - side / 2
        return (*np.round(corner * SOURCE_PX).astype(int).tolist(), round(side * SOURCE_PX))

    def crops(source: Tensor) -> dict[str, np.ndarray]:
        pixels = source[:, 0].numpy()
        views = np.stack([cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA) for image in pixels])[:, None]
        cut: dict[str, np.ndarray] = {}
        for name, region in cropper.regions.items():
            with GradCAM(model=model, target_layers=[cropper.locator.attention]) as cam:
                tensor = torch.from_numpy(views).contiguous(memory_format=torch.channels_last)
                heats = cam(input_tensor=tensor, targets=[lambda months: months.sum()] * len(views))
            found = []
            for i, heat in enumerate(heats):
                x, y, side = box(heat, region)
                found.append(cv2.resize(pixels[i, y : y + side, x : x + side], (PX, PX), interpolation=cv2.INTER_AREA))
                x0, y0, x1, y1 = (round(edge * PX / SOURCE_PX) for edge in (x, y, x + side, y + side))
                views[i, 0, y0:y1, x0:x1] = 0
            cut[name] = np.stack(found)
        return cut

    model = Months().eval()
    return crops


def require_same_crops() -> None:
    """Check that baa and the peer do the same work.

    Both crop images of two spots. The locator responds to brightness, so the place of each box is unambiguous. The peer finds
    boxes in a heat map of 300 px and cuts at whole pixels; baa uses a grid of 48 cells. Edges may differ by a cell.

    Raises:
        RuntimeError: the crops of a region differ by more than `SAME` of the gray scale on average.
    """
    cropper, source = untrained().cropper, _two_spots()
    cropper.locator = _brightness_locator()
    ours, theirs = cropper(View.of(source)).crops, peer_crops(cropper)(source)
    for name, own in ours.items():
        difference = float((own[:, 0] - torch.from_numpy(theirs[name])).abs().mean())
        if difference > SAME:
            raise RuntimeError(f"the {name} crops of both sides differ by {difference:.3f} on average; {SAME} is allowed")


def _two_spots() -> Tensor:
    """Return images [4, 1, SOURCE_PX, SOURCE_PX] of a bright and a fainter spot, closer together from image to image."""
    centers = (torch.arange(SOURCE_PX) + 0.5) / SOURCE_PX

    def spot(x: float, y: float, radius: float) -> Tensor:
        return torch.exp(-((centers - x).square() + (centers - y).square()[:, None]) / (2 * radius**2))

    images = [spot(0.4 + 0.02 * i, 0.7, 0.08) + 0.6 * spot(0.5, 0.3 + 0.02 * i, 0.12) for i in range(4)]
    return torch.stack(images)[:, None].clamp(max=1)


def _brightness_locator() -> Locator:
    """Return a locator whose features and age are the mean brightness of blocks of pixels."""
    locator = Locator(backbone="resnet10t", px=PX, attention="none").eval()
    brightness = nn.Conv2d(1, locator.backbone.channels, 1, bias=False)
    locator.backbone = nn.Sequential(nn.AvgPool2d(PX // 10), brightness)  # type: ignore[assignment]
    last = locator.head.age.layers[-1]
    assert isinstance(last, nn.Linear)
    for layer in (brightness, last):
        nn.init.ones_(layer.weight)
    return locator


def _peak_kib(side: str) -> float:
    """Return the peak memory of one side, measured in its own process.

    glibc maps each tensor separately there, so that freed tensors do not count.
    """
    return printed_numbers(print_peak, side, env={"MALLOC_MMAP_THRESHOLD_": MAPPED_FROM_BYTES})[0]


def print_peak(side: str) -> None:
    """Run one side once and print the peak increase of the process's resident memory in KiB (Linux only)."""
    cropper, film, view = _inputs()
    _forward(cropper, view[:1])
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    before = _status_kib("VmRSS")
    if side == "ours":
        cropper(film)
    else:
        _forward(cropper, view)
    print(_status_kib("VmHWM") - before)


def _status_kib(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
