"""Synthetic hand radiographs with known anatomy, so that a fresh machine needs no download.

A phantom is its seed, index, age and sex: the skeleton of that age, posed and exposed. The same seed gives the same pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from baa.data.cases import Box, Case
from baa.data.radiograph import Radiograph, levels_on_square
from baa.data.sources.phantom.exposure import expose
from baa.data.sources.phantom.ossification import growth
from baa.data.sources.phantom.skeleton import Piece, carpal_extremes, skeleton
from baa.patient import Sex

VERSION = 3
"""Counted up whenever the same seed would give other pixels."""

YOUNGEST_MONTHS, OLDEST_MONTHS = 6, 222

FIELD_MM = 285.0
"""What a phantom's square shows, at an adult's scale."""


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
        film = expose(self.pieces, self.pose, self.scale, px, film=self._rng(3), grain=self._rng(4))
        levels, inverted = levels_on_square(Image.fromarray(film), px)
        return Radiograph(levels, px, px, inverted)

    def _rng(self, purpose: int) -> np.random.Generator:
        """Size, pose, bones, film and grain each have random numbers of their own."""
        return np.random.default_rng([self.seed, self.index, purpose])

    @cached_property
    def scale(self) -> float:
        """Size against an adult's hand."""
        return growth(self.months, self.sex) * self._rng(0).uniform(0.94, 1.06)

    @cached_property
    def pose(self) -> np.ndarray:
        """Millimetres to shares of the square, affine [2, 3]: rotated, shifted, smaller films enlarged a little."""
        rng = self._rng(1)
        angle = np.deg2rad(rng.normal(0, 7))
        zoom = rng.uniform(0.92, 1.08) * self.scale**-0.55 / FIELD_MM
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        x, y = 0.5 + rng.normal(0, 0.025), 0.69 + rng.normal(0, 0.025)
        return np.array([[cos, sin, x], [sin, -cos, y]])

    @cached_property
    def pieces(self) -> list[Piece]:
        """All that is ossified; a hand is not its label to the month."""
        rng = self._rng(2)
        return list(skeleton(self.months + rng.normal(0, 2.0), self.sex, self.scale, rng))

    def region(self, name: str) -> Box:
        """The true box of `carpal` (all eight sites, ossified or not) or `hand` (metacarpals and phalanges)."""
        if name == "carpal":
            points, reach = carpal_extremes(self.scale), 0.0
        else:
            pieces = [piece for piece in self.pieces if piece.region == name]
            points = np.array([point for piece in pieces for point in (piece.start, piece.end)])
            reach = np.repeat([max(piece.near, piece.far) for piece in pieces], 2)[:, None] * np.hypot(*self.pose[0, :2])
        points = points @ self.pose[:, :2].T + self.pose[:, 2]
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
