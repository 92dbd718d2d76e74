"""The bones of a growing left hand in dorsal view, in millimeters.

The origin is the capitate, x points to the thumb, y to the fingertips. Sizes are adult sizes times the scale of the hand.
`baa.data.sources.phantom.ossification` returns the ossified share of each bone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from baa.data.sources.phantom.ossification import SESAMOID_APPEARS, Cap, cap, carpal_size
from baa.patient import Sex

CARPALS_MM = {  # center x, y, half width, half height, tilt in degrees
    "capitate": (0.0, 0.0, 6.5, 10.5, 0),
    "hamate": (-11.5, 1.0, 7.0, 8.5, 15),
    "triquetrum": (-16.5, -9.5, 6.5, 5.5, 30),
    "lunate": (-4.5, -13.5, 6.5, 6.0, 10),
    "scaphoid": (9.5, -9.5, 5.5, 9.5, -40),
    "trapezium": (19.5, 3.0, 6.0, 6.5, 30),
    "trapezoid": (10.5, 6.5, 5.0, 5.0, 0),
    "pisiform": (-19.5, -6.5, 4.0, 4.5, 0),
}


class Ray(NamedTuple):
    """A digit: base of the metacarpal, directions of metacarpal and phalanges, lengths of the bones from the base."""

    base: tuple[float, float]
    metacarpal_degrees: float
    finger_degrees: float
    lengths_mm: tuple[float, ...]


RAYS = (  # thumb first
    Ray((24.0, 8.0), 44.0, 32.0, (46.0, 32.0, 22.0)),
    Ray((12.5, 14.0), 10.0, 14.0, (67.0, 40.0, 24.0, 17.0)),
    Ray((1.0, 13.0), 1.0, 2.0, (64.0, 44.0, 28.0, 18.0)),
    Ray((-9.5, 12.0), -8.0, -11.0, (57.0, 41.0, 26.0, 18.0)),
    Ray((-18.0, 9.5), -16.0, -25.0, (53.0, 33.0, 19.0, 16.0)),
)


class Shaft(NamedTuple):
    """A long bone: half widths in the middle, at the proximal and at the distal end, and height of the epiphysis."""

    middle: float
    proximal: float
    distal: float
    epiphysis: float


SHAFTS_MM = {
    "metacarpal": Shaft(4.0, 7.0, 7.0, 5.0),
    "proximal": Shaft(4.3, 7.3, 5.4, 5.0),
    "middle": Shaft(3.7, 6.2, 4.6, 4.6),
    "distal": Shaft(2.3, 5.0, 3.6, 4.0),
    "radius": Shaft(7.5, 7.5, 14.0, 7.5),
    "ulna": Shaft(5.5, 5.5, 8.0, 6.0),
}
FOREARM_MM = {"radius": (8.0, -22.0), "ulna": (-16.5, -23.0)}  # x, y of the distal end
FOREARM_LENGTH_MM = 90.0
PLATE_MM, JOINT_MM = 2.2, 1.8
SHAFT_BLUNTNESS, EPIPHYSIS_BLUNTNESS = 4.0, 1.6


class Piece(NamedTuple):
    """A shaft, an epiphysis or a small bone, in millimeters of this hand.

    It is a stem from `start` to `end`. `middle`, `near` and `far` are half widths in the middle, at the start and at the end.
    A half ellipse, `blunt` times as wide as high, closes each end. `cortex` is the thickness of the bright rim.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    middle: float
    near: float
    far: float
    blunt: float
    cortex: float
    region: str


def skeleton(months: float, sex: Sex, scale: float, rng: np.random.Generator, *, carpal_months: float) -> Iterator[Piece]:
    """Yield the ossified bones at an age, in a hand of `scale` times adult size.

    Args:
        months: age of all bones but the carpals.
        sex, scale: of the hand.
        rng: draws the spread of the fingers.
        carpal_months: age of the carpals.
    """
    for name, site in CARPALS_MM.items():
        size = carpal_size(name, carpal_months, sex) * scale
        if size:
            yield _carpal(site, size, scale)
    for number, ray in enumerate(RAYS):
        spread = rng.normal(0, 2.0) + (number - 2) * rng.normal(0, 0.6)
        yield from _digit(ray, number, months, sex, scale, spread)
    for name, (x, y) in FOREARM_MM.items():
        elbow = np.array([x * scale, y * scale - FOREARM_LENGTH_MM])
        state, up = cap(name, months, sex), np.array([0.0, 1.0])
        yield from _long_bone(elbow, up, FOREARM_LENGTH_MM, SHAFTS_MM[name], state, scale, "forearm", distal_cap=True)
    if months >= SESAMOID_APPEARS.of(sex):
        degrees = np.deg2rad(RAYS[0].metacarpal_degrees)
        x, y = RAYS[0].base[0] + 44 * np.sin(degrees) - 6, RAYS[0].base[1] + 44 * np.cos(degrees)
        bead = 2.2 * scale
        yield Piece((x * scale, y * scale - 0.5), (x * scale, y * scale + 0.5), bead, bead, bead, 1.0, 0.7, "hand")


def carpal_extremes(scale: float) -> np.ndarray:
    """Return the leftmost, rightmost, lowest and highest point of each full-size carpal, ossified or not: [32, 2]."""
    return scale * np.array(
        [
            (x + dx * half_width, y + dy * half_height)
            for x, y, half_width, half_height, _ in CARPALS_MM.values()
            for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
    )


def _carpal(site: tuple[float, float, float, float, int], size: float, scale: float) -> Piece:
    x, y, half_width, half_height, tilt = site
    end = 0.8 * half_width
    stem = max(half_height - end, 0.25 * half_height)
    dx, dy = np.sin(np.deg2rad(tilt)) * stem * size, np.cos(np.deg2rad(tilt)) * stem * size
    return Piece(
        start=(x * scale - dx, y * scale - dy),
        end=(x * scale + dx, y * scale + dy),
        middle=half_width * size,
        near=end * size,
        far=end * size,
        blunt=end / (half_height - stem),
        cortex=0.9,
        region="carpal",
    )


def _digit(ray: Ray, number: int, months: float, sex: Sex, scale: float, spread: float) -> Iterator[Piece]:
    thumb = number == 0
    kinds = ("metacarpal", "proximal", "distal") if thumb else ("metacarpal", "proximal", "middle", "distal")
    at = np.array(ray.base) * scale
    for kind, length in zip(kinds, ray.lengths_mm, strict=True):
        metacarpal = kind == "metacarpal"
        degrees = np.deg2rad(ray.metacarpal_degrees if metacarpal else ray.finger_degrees + spread)
        axis = np.array([np.sin(degrees), np.cos(degrees)])
        state = cap("metacarpal 1" if thumb and metacarpal else kind, months, sex)
        distal_cap = metacarpal and not thumb
        yield from _long_bone(at, axis, length * scale, SHAFTS_MM[kind], state, scale, "hand", distal_cap=distal_cap)
        at = at + axis * (length + JOINT_MM) * scale


def _long_bone(
    base: np.ndarray, axis: np.ndarray, length: float, shaft: Shaft, state: Cap, scale: float, region: str, *, distal_cap: bool
) -> Iterator[Piece]:
    """Yield a shaft, and the epiphysis at one end unless it is absent or fused."""
    height = shaft.epiphysis * scale
    growing = (height + PLATE_MM * scale) * state.gap  # length of epiphysis and growth plate
    near, far = shaft.proximal * scale, shaft.distal * scale
    low = (0.0 if distal_cap else growing) + near / SHAFT_BLUNTNESS
    high = length - (growing if distal_cap else 0.0) - far / SHAFT_BLUNTNESS
    yield Piece(
        start=tuple(base + axis * low),
        end=tuple(base + axis * high),
        middle=shaft.middle * scale,
        near=near,
        far=far,
        blunt=SHAFT_BLUNTNESS,
        cortex=1.4 * scale,
        region=region,
    )
    if state.width and state.gap:
        half_height = max(height * state.height / 2, 0.3)
        half_width = (far if distal_cap else near) * state.width
        center = base + axis * (length - height / 2 if distal_cap else height / 2)
        side = np.array([axis[1], -axis[0]]) * max(half_width - half_height / EPIPHYSIS_BLUNTNESS, 0.2)
        yield Piece(
            start=tuple(center - side),
            end=tuple(center + side),
            middle=half_height,
            near=half_height,
            far=half_height,
            blunt=EPIPHYSIS_BLUNTNESS,
            cortex=0.7 * scale,
            region=region,
        )
