"""`crops`: images to heat maps, mask, boxes and both crops, against bare forwards and against pytorch-grad-cam."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.errors import InputError
from baa.nets.film import Film
from baa.nets.locator import Locator
from baa.nets.regions import CARPAL, HAND, RegionCropper

BATCH, SOURCE_PX, PX = 16, 640, 300
RESET_PEAK = "5"
"""What Linux wants written to clear_refs to forget the highest resident size so far."""

THRESHOLD, MARGIN, SMALLEST, LARGEST = 0.5, 0.03, (0.2, 0.4), (0.4, 0.8)


def bench() -> list[Row]:
    """Time in the network: two looks are the limit, and everything between them should cost next to nothing."""
    source, cropper = _source(), _cropper()
    film = Film.plain(source)
    view = film.view(PX).contiguous(memory_format=torch.channels_last)
    peer = peer_crops(cropper.locator)
    sides: dict[str, Callable[[], object]] = {
        "forward": lambda: _forward(cropper.locator, view),
        "ours": lambda: cropper(film),
        "peer": lambda: peer(source),
    }
    seconds = alternate(sides)
    memory = [_peak_bytes("ours") / _peak_bytes("forward") for _ in range(3)]
    return [
        quotient("crops", "both crops / one forward of the locator", seconds["ours"], seconds["forward"], 2.10),
        quotient("crops-peer", "grad-cam + OpenCV / ours", seconds["peer"], seconds["ours"], 3.0, at_least=True),
        Row("crops-memory", "peak memory / the forward's", sorted(memory)[1], min(memory), max(memory), 1.25),
    ]


def _source() -> Tensor:
    from baa.data.phantom import phantom_cases

    pixels = [torch.from_numpy(case.image.load(SOURCE_PX).pixels.copy()) for case in phantom_cases(BATCH, seed=0)]
    return torch.stack(pixels)[:, None].float() / 255


def _cropper() -> RegionCropper:
    torch.manual_seed(0)
    locator = Locator(backbone="inception_v3", px=PX)
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
        raise InputError(f"the crops benchmark needs {error.name}; pip install 'baa[bench]'") from error

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
        return (*np.round(corner * SOURCE_PX).astype(int), round(side * SOURCE_PX))

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


def _peak_bytes(side: str) -> float:
    """Peak memory of one side above what was there before, in a process of its own."""
    code = f"from baa.benchmarks.cropping import print_peak; print_peak({side!r})"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(side: str) -> None:
    """Run one side once and print how many KiB above its start the process's memory peaked (Linux only)."""
    source, cropper = _source(), _cropper()
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
    print(_status_kib("VmHWM") - before)  # noqa: T201


def _status_kib(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
