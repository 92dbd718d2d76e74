"""Synthetic hand radiographs with known anatomy, so that a fresh machine needs no download.

Bones lie where they lie in a left hand seen from the back (millimetres of an adult's, thumb to the right), are as far
ossified as `baa.data.ossification` says, and are drawn as what X-rays see of them: a bright cortex around a darker core, soft
tissue, noise, collimation, a marker. The same seed gives the same pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from baa.data.cases import Box, Case
from baa.data.ossification import SESAMOID_APPEARS, Cap, cap, carpal_size, growth
from baa.data.radiograph import Radiograph
from baa.nets.fusion import Sex

VERSION = 1
"""Counted up whenever the same seed would give other pixels."""

YOUNGEST_MONTHS, OLDEST_MONTHS = 6, 222
FIELD_MM = 285.0
"""What a phantom's square shows, at an adult's scale."""

CARPALS_MM = {  # centre x, y (up), half width, half height, tilt in degrees
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
    """A digit, thumb first: base of its metacarpal, direction of metacarpal and of phalanges, lengths of its bones."""

    base: tuple[float, float]
    metacarpal_degrees: float
    finger_degrees: float
    lengths_mm: tuple[float, ...]


RAYS = (
    Ray((24.0, 8.0), 44.0, 32.0, (46.0, 32.0, 22.0)),
    Ray((12.5, 14.0), 10.0, 14.0, (67.0, 40.0, 24.0, 17.0)),
    Ray((1.0, 13.0), 1.0, 2.0, (64.0, 44.0, 28.0, 18.0)),
    Ray((-9.5, 12.0), -8.0, -11.0, (57.0, 41.0, 26.0, 18.0)),
    Ray((-18.0, 9.5), -16.0, -25.0, (53.0, 33.0, 19.0, 16.0)),
)
SHAFTS_MM = {  # half width in the middle, at the proximal end, at the distal end
    "metacarpal": (4.0, 7.0, 7.0),
    "proximal": (4.3, 7.3, 5.4),
    "middle": (3.7, 6.2, 4.6),
    "distal": (2.3, 5.0, 3.6),
}
EPIPHYSIS_MM, PLATE_MM, JOINT_MM = 5.0, 1.6, 1.8
FOREARM_MM = {  # x, y of the distal end, half width there, half width of the shaft, epiphysis' height
    "radius": (8.0, -23.0, 14.0, 7.5, 7.0),
    "ulna": (-16.5, -23.0, 7.5, 5.5, 5.0),
}
FOREARM_LENGTH_MM = 90.0


class Piece(NamedTuple):
    """A bone, or one side of its growth plate, in millimetres of this hand (x right, y up, capitate at the origin).

    A straight stem from `start` to `end` with half widths in the middle and at both ends; `cortex` is how thick its bright
    rim is.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    middle: float
    near: float
    far: float
    cortex: float
    region: str


@dataclass(frozen=True)
class Phantom:
    """One synthetic hand: everything about it follows from these four."""

    seed: int
    index: int
    months: float
    sex: Sex

    @property
    def name(self) -> str:
        return f"phantom {self.seed}/{self.index}"

    def fingerprint(self) -> bytes:
        return f"{VERSION}:{self}".encode()

    def load(self, px: int) -> Radiograph:
        return Radiograph(render(self, px), px, px, inverted=False)

    def rng(self, purpose: int) -> np.random.Generator:
        """Random numbers of this hand; pose, film and noise each have their own."""
        return np.random.default_rng([self.seed, self.index, purpose])

    @cached_property
    def scale(self) -> float:
        """Size against an adult's hand."""
        return growth(self.months, self.sex) * self.rng(0).uniform(0.94, 1.06)

    @cached_property
    def pose(self) -> np.ndarray:
        """Millimetres to shares of the square, affine [2, 3]: rotated, shifted, smaller films enlarged a little."""
        rng = self.rng(1)
        angle = np.deg2rad(rng.normal(0, 7))
        zoom = rng.uniform(0.92, 1.08) * self.scale**-0.55 / FIELD_MM
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        x, y = 0.5 + rng.normal(0, 0.025), 0.69 + rng.normal(0, 0.025)
        return np.array([[cos, sin, x], [sin, -cos, y]])

    @cached_property
    def pieces(self) -> list[Piece]:
        """All that is ossified."""
        return list(_bones(self))

    def region(self, name: str) -> Box:
        """The true box of `carpal` (all eight sites, ossified or not) or `hand` (metacarpals and phalanges)."""
        if name == "carpal":
            edges = [
                (self.scale * (x + dx * a), self.scale * (y + dy * b), 0.0)
                for x, y, a, b, _ in CARPALS_MM.values()
                for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
            ]
        else:
            edges = [
                (*point, max(piece.near, piece.far))
                for piece in self.pieces
                if piece.region == name
                for point in (piece.start, piece.end)
            ]
        points = np.array([edge[:2] for edge in edges]) @ self.pose[:, :2].T + self.pose[:, 2]
        reach = np.array([edge[2] for edge in edges])[:, None] * np.hypot(*self.pose[0, :2])
        low, high = (points - reach).min(axis=0).clip(0, 1), (points + reach).max(axis=0).clip(0, 1)
        return Box(*map(float, (*low, *high)))

    def capitate(self) -> tuple[float, float]:
        """The capitate's centre, as shares of the square."""
        return float(self.pose[0, 2]), float(self.pose[1, 2])


def phantom_cases(count: int, *, seed: int) -> list[Case]:
    """Hands of all ages, both sexes, with their true regions. Case i is the same whatever `count` is."""
    cases = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        months = float(rng.integers(YOUNGEST_MONTHS, OLDEST_MONTHS + 1))
        hand = Phantom(seed, index, months, Sex(int(rng.integers(2))))
        cases.append(
            Case(
                id=f"phantom-{seed}-{index}",
                image=hand,
                months=months,
                sex=hand.sex,
                carpal=hand.region("carpal"),
                hand=hand.region("hand"),
                capitate=hand.capitate(),
            )
        )
    return cases


def _bones(hand: Phantom) -> Iterator[Piece]:
    months, sex, s = hand.months, hand.sex, hand.scale
    rng = hand.rng(2)
    individual = months + rng.normal(0, 2.0)  # a hand is not its label to the month
    for name, (x, y, a, b, tilt) in CARPALS_MM.items():
        size = carpal_size(name, individual, sex) * s
        if size:
            direction = np.deg2rad(tilt)
            half = max(b - a * 0.7, 0.3) * size
            dx, dy = np.sin(direction) * half, np.cos(direction) * half
            yield Piece(
                (x * s - dx, y * s - dy), (x * s + dx, y * s + dy), a * size, a * size * 0.75, a * size * 0.75, 0.9, "carpal"
            )
    for number, ray in enumerate(RAYS):
        yield from _ray(ray, number, individual, sex, s, spread=rng.normal(0, 2.0) + (number - 2) * rng.normal(0, 0.6))
    for name, (x, y, end, shaft, height) in FOREARM_MM.items():
        state = cap(name, individual, sex)
        plate = (height * state.height + PLATE_MM) * s if state.gap else height * s
        top = y * s
        if state.width:
            mid = top - height * s / 2 * state.height
            half = max(end * state.width - height / 2 * state.height, 0.5) * s
            thick = height / 2 * state.height * s
            yield Piece((x * s - half, mid), (x * s + half, mid), thick, thick, thick, 0.8, "forearm")
        low = top - plate - PLATE_MM * s * (state.gap if state.width else 2.5) * 0.6
        low = low if state.gap else top - height * s * 0.5
        yield Piece((x * s, top - FOREARM_LENGTH_MM), (x * s, low), shaft * s, shaft * s, end * s, 1.6, "forearm")
    if individual >= SESAMOID_APPEARS.of(sex):
        angle = np.deg2rad(RAYS[0].metacarpal_degrees)
        x, y = RAYS[0].base[0] + 44 * np.sin(angle) - 6, RAYS[0].base[1] + 44 * np.cos(angle)
        yield Piece((x * s, y * s - 0.5), (x * s, y * s + 0.5), 2.2 * s, 2.0 * s, 2.0 * s, 0.7, "hand")


def _ray(ray: Ray, number: int, months: float, sex: Sex, s: float, spread: float) -> Iterator[Piece]:
    kinds = ("metacarpal", "proximal", "distal") if number == 0 else ("metacarpal", "proximal", "middle", "distal")
    at = np.array(ray.base) * s
    for kind, length in zip(kinds, ray.lengths_mm, strict=True):
        degrees = ray.metacarpal_degrees if kind == "metacarpal" else ray.finger_degrees + spread
        axis = np.array([np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))])
        distal_cap = kind == "metacarpal" and number > 0
        key = "metacarpal 1" if kind == "metacarpal" and number == 0 else kind
        yield from _long_bone(at, axis, length * s, kind, cap(key, months, sex), s, distal_cap=distal_cap)
        at = at + axis * (length + JOINT_MM) * s


def _long_bone(
    base: np.ndarray, axis: np.ndarray, length: float, kind: str, state: Cap, s: float, *, distal_cap: bool
) -> Iterator[Piece]:
    """A shaft and, at one end of it, an epiphysis: none yet, a dot, a disc, a cap, or one with the shaft again."""
    middle, near, far = (width * s for width in SHAFTS_MM[kind])
    height = EPIPHYSIS_MM * s * min(1.0, length / (25 * s))
    cut = (height + PLATE_MM * s) * state.gap  # what of the length is not shaft
    start, end = (base, base + axis * (length - cut)) if distal_cap else (base + axis * cut, base + axis * length)
    yield Piece(tuple(start), tuple(end), middle, near, far, 1.3 * s, "hand")
    if state.width and state.gap:
        width = (far if distal_cap else near) * state.width
        thick = max(height * state.height / 2, 0.3)
        out = axis * (height / 2 + (1 - state.gap) * PLATE_MM * s / 2)
        centre = base + axis * length - out if distal_cap else base + out
        side = np.array([axis[1], -axis[0]]) * max(width - thick, 0.2)
        yield Piece(tuple(centre - side), tuple(centre + side), thick, thick, thick * 0.9, 0.7 * s, "hand")


def render(hand: Phantom, px: int) -> np.ndarray:
    """The radiograph of a phantom, uint8 [px, px]."""
    film = hand.rng(3)
    image = 0.34 * _soft_tissue(hand, px)
    clear = np.ones((px, px), np.float32)
    for piece in hand.pieces:
        _absorb(clear, piece, hand.pose * px)
    image += film.uniform(0.5, 0.62) * (1 - clear) * (0.55 + 0.45 * clear)
    image += np.linspace(0, film.uniform(-0.06, 0.06), px, dtype=np.float32)  # the anode's heel
    image = image * film.uniform(0.75, 1.15) + film.uniform(0.03, 0.12)
    noise = hand.rng(4).standard_normal((px, px), dtype=np.float32)
    image += noise * film.uniform(0.008, 0.022)
    levels = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8))
    return np.asarray(_collimated(_marked(levels, film, px), film, px))


def _soft_tissue(hand: Phantom, px: int) -> np.ndarray:
    """Skin and muscle, [px, px] in [0, 1]: fleshy along every bone, a palm between the metacarpals, a forearm."""
    small = px // 2
    pose = hand.pose * small
    zoom = float(np.hypot(*pose[0, :2]))
    canvas = Image.new("L", (small, small))
    draw = ImageDraw.Draw(canvas)

    def place(x: float, y: float) -> tuple[float, float]:
        u, v = pose[:, :2] @ (x, y) + pose[:, 2]
        return float(u), float(v)

    s = hand.scale
    fingers = [piece for piece in hand.pieces if piece.region == "hand"]
    for piece in fingers:
        width = (3.6 + 1.15 * max(piece.near, piece.far) / s) * s
        for point in (piece.start, piece.end):
            u, v = place(*point)
            r = width * zoom
            draw.ellipse((u - r, v - r, u + r, v + r), fill=190)
        draw.line([place(*piece.start), place(*piece.end)], fill=190, width=max(1, round(2 * width * zoom)))
    palm = [(-29, 0), (-36, 60), (-22, 78), (0, 84), (18, 78), (34, 40), (38, 14), (28, -16), (-26, -18)]
    arm = [(-26, -12), (27, -12), (25, -50), (29, -130), (-31, -130), (-27, -50)]
    draw.polygon([place(x * s, y * s) for x, y in palm], fill=215)
    draw.polygon([place(x * s, y * s if y > -100 else y) for x, y in arm], fill=215)
    soft = canvas.filter(ImageFilter.GaussianBlur(max(1.0, 1.6 * zoom * s))).resize((px, px), Image.Resampling.BILINEAR)
    return np.asarray(soft, np.float32) / 255


def _absorb(clear: np.ndarray, piece: Piece, pose: np.ndarray) -> None:
    """Multiply what passes through `piece` into `clear` [px, px], within the piece's own window."""
    px = len(clear)
    zoom = float(np.hypot(*pose[0, :2]))
    a, b = (pose[:, :2] @ point + pose[:, 2] for point in (piece.start, piece.end))
    reach = max(piece.middle, piece.near, piece.far) * zoom + 2
    x0, y0 = np.floor(np.minimum(a, b) - reach).astype(int).clip(0, px)
    x1, y1 = np.ceil(np.maximum(a, b) + reach).astype(int).clip(0, px)
    if x0 >= x1 or y0 >= y1:
        return
    length = max(float(np.hypot(*(b - a))), 1e-3)
    axis = (b - a) / length
    x = np.arange(x0, x1, dtype=np.float32)[None] + 0.5 - a[0]
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - a[1]
    along = x * np.float32(axis[0]) + y * np.float32(axis[1])
    across = np.abs(x * np.float32(axis[1]) - y * np.float32(axis[0]))
    place = (along / np.float32(length)).clip(0, 1)
    flare = (2 * place - 1) ** 2
    flare *= flare
    ends = np.where(place < 0.5, np.float32((piece.near - piece.middle) * zoom), np.float32((piece.far - piece.middle) * zoom))
    width = np.float32(piece.middle * zoom) + flare * ends
    beyond = np.maximum(np.maximum(-along, along - np.float32(length)), 0) * np.float32(1.6)
    depth = width - np.sqrt(across * across + beyond * beyond)
    inside = depth.clip(0, 1)
    rim = np.exp(-np.maximum(depth, 0) / np.float32(max(piece.cortex * zoom, 0.5)))
    clear[y0:y1, x0:x1] *= 1 - inside * (np.float32(0.42) + np.float32(0.38) * rim)


def _marked(film: Image.Image, rng: np.random.Generator, px: int) -> Image.Image:
    """With the lead letter that says which hand it is."""
    size = px * rng.uniform(0.05, 0.08)
    corner = rng.choice([0.06, 0.86]) * px, rng.uniform(0.05, 0.3) * px
    ImageDraw.Draw(film).text(corner, "L", fill=250, font=ImageFont.load_default(size))
    return film


def _collimated(film: Image.Image, rng: np.random.Generator, px: int) -> Image.Image:
    """Dark, now and then grey, where the beam did not reach: a slightly turned rectangle is left."""
    mask = Image.new("L", film.size)
    turn = np.deg2rad(rng.normal(0, 2))
    half_x, half_y = rng.uniform(0.44, 0.56) * px, rng.uniform(0.47, 0.56) * px
    corners = [(x * half_x, y * half_y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    middle, cos, sin = px / 2, np.cos(turn), np.sin(turn)
    ImageDraw.Draw(mask).polygon([(middle + x * cos - y * sin, middle + x * sin + y * cos) for x, y in corners], fill=255)
    outside = Image.new("L", film.size, int(rng.choice([0, 4, 60], p=[0.6, 0.3, 0.1])))
    return Image.composite(film, outside, mask)
