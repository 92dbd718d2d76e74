"""A synthetic hand radiograph with known anatomy.

Seed, index, age and sex determine skeleton, pose and exposure. The same values always give the same pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from baa.data.cases import Box, Case
from baa.data.read.radiograph import Gray, Radiograph
from baa.data.read.square import make_radiograph
from baa.data.sources.phantom.exposure import expose
from baa.data.sources.phantom.ossification import growth
from baa.data.sources.phantom.skeleton import Piece, carpal_extremes, skeleton
from baa.patient import Sex

VERSION = 4
"""Part of the fingerprint. Increase it with every change of the pixels of a seed."""

YOUNGEST_MONTHS, OLDEST_MONTHS = 6, 222

FIELD_MM = 285.0
"""Side of the square of a phantom at adult scale."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic hand, determined by its fields.

    months is the age of its bones; the carpals alone are `carpal_delay` months behind.
    """

    seed: int
    index: int
    months: float
    sex: Sex
    carpal_delay: float = 0.0

    @property
    def name(self) -> str:
        return f"phantom {self.seed}/{self.index}"

    def fingerprint(self) -> bytes:
        return f"{VERSION}:{self}".encode()

    def load(self, px: int) -> Radiograph:
        film = expose(self.pieces, self.pose, self.scale, px, film=self._rng(3), grain=self._rng(4))
        return make_radiograph(Gray(film, declared=True), px)

    def _rng(self, purpose: int) -> np.random.Generator:
        """Return the random generator of a purpose: 0 size, 1 pose, 2 bones, 3 film, 4 grain."""
        return np.random.default_rng([self.seed, self.index, purpose])

    @cached_property
    def scale(self) -> float:
        """Size as a share of an adult hand."""
        return growth(self.months, self.sex) * self._rng(0).uniform(0.94, 1.06)

    @cached_property
    def pose(self) -> np.ndarray:
        """Affine [2, 3] from millimeters to shares of the square: rotation, shift, zoom. Hands of every age fill the film."""
        rng = self._rng(1)
        angle = np.deg2rad(rng.normal(0, 7))
        zoom = rng.uniform(0.88, 1.08) * self.scale**-0.9 / FIELD_MM
        cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
        x, y = 0.5 + rng.normal(0, 0.025), 0.69 + rng.normal(0, 0.025)
        return np.array([[cos, sin, x], [sin, -cos, y]])

    @cached_property
    def pieces(self) -> list[Piece]:
        """The ossified bones. Their age differs slightly from the label, as in children."""
        rng = self._rng(2)
        months = self.months + rng.normal(0, 2.0)
        return list(skeleton(months, self.sex, self.scale, rng, carpal_months=months - self.carpal_delay))

    def boxes(self) -> dict[str, Box]:
        """Return the true boxes of `carpal` (all eight carpals, ossified or not) and `hand` (metacarpals and phalanges)."""
        bones = [piece for piece in self.pieces if piece.region == "hand"]
        ends = np.array([point for bone in bones for point in (bone.start, bone.end)])
        radii = np.repeat([max(bone.near, bone.far) for bone in bones], 2)[:, None] * np.hypot(*self.pose[0, :2])
        return {"carpal": self._box(carpal_extremes(self.scale)), "hand": self._box(ends, radii)}

    def _box(self, points: np.ndarray, radii: np.ndarray | float = 0.0) -> Box:
        """Return the bounding box of points [N, 2] in millimeters, with radii [N, 1] in shares of the square."""
        points = points @ self.pose[:, :2].T + self.pose[:, 2]
        low, high = (points - radii).min(axis=0).clip(0, 1), (points + radii).max(axis=0).clip(0, 1)
        return Box(*map(float, (*low, *high)))

    def capitate(self) -> tuple[float, float]:
        """Return the center (x, y) of the capitate in shares of the square."""
        return float(self.pose[0, 2]), float(self.pose[1, 2])


def phantom_cases(count: int, *, seed: int) -> list[Case]:
    """Return hands of all ages and both sexes, with true boxes. Case i does not depend on `count`.

    Example:
        >>> case = phantom_cases(3, seed=0)[2]
        >>> case.id, sorted(case.gt_boxes), case.image.load(64).pixels.shape
        ('phantom-0-2', ['carpal', 'hand'], (64, 64))
    """
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
                gt_boxes=hand.boxes(),
                capitate=hand.capitate(),
            )
        )
    return cases
