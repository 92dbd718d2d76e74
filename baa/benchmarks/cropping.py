"""`crops`: images to heat maps, mask, boxes and both crops, against bare forwards and against pytorch-grad-cam."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.errors import InputError
from baa.nets.cropper import CARPAL, HAND, REGIONS, RegionCropper
from baa.nets.locator import Locator
from baa.nets.view import Film

BATCH, SOURCE_PX, PX = 16, 640, 300
SAME = 0.05
RESET_PEAK = "5"
"""What Linux wants written to clear_refs to forget the highest resident size so far."""

MAPPED_FROM_BYTES = "131072"
"""glibc's own threshold; giving it keeps glibc from raising it."""

THRESHOLD, MARGIN, SMALLEST, LARGEST = 0.5, 0.03, (0.2, 0.4), (0.4, 0.8)


def bench() -> list[Row]:
    """Time in the network: two looks are the limit, and everything between them should cost next to nothing."""
    source, cropper = _source(), _cropper(_inception())
    film = Film.plain(source)
    view = film.view(PX).contiguous(memory_format=torch.channels_last)
    peer = peer_crops(cropper.locator)
    require_same_crops()
    sides: dict[str, Callable[[], object]] = {
        "forward": lambda: _forward(cropper.locator, view),
        "ours": lambda: cropper(film),
        "peer": lambda: peer(source),
    }
    seconds = alternate(sides)
    memory = [_peak_kib("ours") / _peak_kib("forward") for _ in range(3)]
    return [
        quotient("crops", "both crops / one forward of the locator", seconds["ours"], seconds["forward"], 2.10),
        quotient("crops-peer", "grad-cam + OpenCV / ours", seconds["peer"], seconds["ours"], 3.0, at_least=True),
        Row("crops-memory", "peak memory / the forward's", sorted(memory)[1], min(memory), max(memory), 1.25),
    ]


def _source() -> Tensor:
    from baa.data.sources.phantom.phantom import phantom_cases

    pixels = [torch.from_numpy(case.image.load(SOURCE_PX).pixels.copy()) for case in phantom_cases(BATCH, seed=0)]
    return torch.stack(pixels)[:, None].float() / 255


def _inception() -> Locator:
    torch.manual_seed(0)
    return Locator(backbone="inception_v3", px=PX)


def _cropper(locator: Locator) -> RegionCropper:
    cropper = RegionCropper(
        locator,
        px=(PX, PX),
        rule="peak",
        reading="relu",
        threshold=THRESHOLD,
        margin=MARGIN,
        smallest=SMALLEST,
        largest=LARGEST,
    )
    return cropper.to(memory_format=torch.channels_last)


@torch.no_grad()
def _forward(locator: Locator, view: Tensor) -> Tensor:
    return locator.backbone(view)


def peer_crops(locator: Locator) -> Callable[[Tensor], tuple[np.ndarray, np.ndarray]]:
    """The same task as a user would write it today: pytorch-grad-cam in batches, boxes and crops by OpenCV image by image.

    Raises:
        InputError: the peers are not installed.
    """
    try:
        import cv2
        from pytorch_grad_cam import GradCAM
    except ImportError as error:
        raise InputError(f"the crops benchmark needs {error.name}; pip install -e '.[bench]'") from error

    class Months(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.locator = locator

        def forward(self, view: Tensor) -> Tensor:
            return self.locator(view).months[:, None]

    def box(heat: np.ndarray, region: int) -> tuple[int, int, int]:
        hot = (heat >= THRESHOLD * heat.max()).astype(np.uint8)
        _, labels = cv2.connectedComponents(hot, connectivity=8)
        rows, columns = np.nonzero(labels == labels[np.unravel_index(heat.argmax(), heat.shape)])
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
        side = np.clip((high - low).max() / len(heat) + 2 * MARGIN, SMALLEST[region], LARGEST[region])
        corner = ((low + high) / 2 / len(heat)).clip(side / 2, 1 - side / 2) - side / 2
        return (*np.round(corner * SOURCE_PX).astype(int).tolist(), round(side * SOURCE_PX))

    def crops(source: Tensor) -> tuple[np.ndarray, np.ndarray]:
        pixels = source[:, 0].numpy()
        views = np.stack([cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA) for image in pixels])[:, None]
        cut: list[np.ndarray] = []
        for region in (CARPAL, HAND):
            with GradCAM(model=model, target_layers=[locator.attention]) as cam:
                tensor = torch.from_numpy(views).contiguous(memory_format=torch.channels_last)
                heats = cam(input_tensor=tensor, targets=[lambda months: months.sum()] * len(views))
            found = []
            for i, heat in enumerate(heats):
                x, y, side = box(heat, region)
                found.append(cv2.resize(pixels[i, y : y + side, x : x + side], (PX, PX), interpolation=cv2.INTER_AREA))
                x0, y0, x1, y1 = (round(edge * PX / SOURCE_PX) for edge in (x, y, x + side, y + side))
                views[i, 0, y0:y1, x0:x1] = 0
            cut.append(np.stack(found))
        return cut[0], cut[1]

    model = Months().eval()
    return crops


def require_same_crops() -> None:
    """Stop a race between sides that do not do the same work.

    Both cut pictures of two spots by a locator that looks at what is bright: there is no doubt about where its boxes belong.
    The peer finds them in a heat map of 300 px and cuts at whole pixels, ours on a grid of 48 cells: edges may differ a cell.

    Raises:
        RuntimeError: the crops of a region differ by more than `SAME` of the grey scale, in the mean.
    """
    source, locator = _two_spots(), _bright_locator()
    ours, theirs = _cropper(locator)(Film.plain(source)).crops, peer_crops(locator)(source)
    for name, own, other in zip(REGIONS, ours, theirs, strict=True):
        apart = float((own[:, 0] - torch.from_numpy(other)).abs().mean())
        if apart > SAME:
            raise RuntimeError(f"the {name} crops of both sides differ by {apart:.3f} in the mean, {SAME} is allowed")


def _two_spots() -> Tensor:
    """[4, 1, SOURCE_PX, SOURCE_PX]: a bright and a fainter spot, nearer to each other from picture to picture."""
    places = (torch.arange(SOURCE_PX) + 0.5) / SOURCE_PX

    def spot(x: float, y: float, radius: float) -> Tensor:
        across, down = (places - x).square(), (places - y).square()
        return torch.exp(-(across + down[:, None]) / (2 * radius**2))

    pictures = [spot(0.4 + 0.02 * i, 0.7, 0.08) + 0.6 * spot(0.5, 0.3 + 0.02 * i, 0.12) for i in range(4)]
    return torch.stack(pictures)[:, None].clamp(max=1)


class _Brightness(nn.Module):
    """Stands in for a trunk: [B, 1, H, W] -> [B, channels, h, w], every channel the mean of a block of pixels."""

    def __init__(self, channels: int, block: int) -> None:
        super().__init__()
        self.block = block
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, view: Tensor) -> Tensor:
        return F.avg_pool2d(view, self.block) * self.scale


def _bright_locator() -> Locator:
    locator = Locator(backbone="resnet10t", px=PX, attention="none").eval()
    locator.backbone = _Brightness(locator.backbone.channels, PX // 10)  # type: ignore[assignment]
    last = locator.head.age.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.ones_(last.weight)
    return locator


def _peak_kib(side: str) -> float:
    """Peak memory of one side above what was there before, in a process of its own.

    glibc maps each tensor by itself there: what is counted is what is alive, not what its heap keeps of the freed.
    """
    code = f"from baa.benchmarks.cropping import print_peak; print_peak({side!r})"
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": MAPPED_FROM_BYTES}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    return float(done.stdout.split()[-1])


def print_peak(side: str) -> None:
    """Run one side once and print how many KiB above its start the process's memory peaked (Linux only)."""
    source, cropper = _source(), _cropper(_inception())
    film = Film.plain(source)
    view = film.view(PX).contiguous(memory_format=torch.channels_last)
    _forward(cropper.locator, view[:1])
    with open("/proc/self/clear_refs", "w") as file:
        file.write(RESET_PEAK)
    before = _status_kib("VmRSS")
    if side == "ours":
        cropper(film)
    else:
        _forward(cropper.locator, view)
    print(_status_kib("VmHWM") - before)


def _status_kib(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
