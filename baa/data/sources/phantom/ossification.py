"""When the centres of ossification of hand and wrist appear, how they grow, when epiphyses fuse: by sex, in months.

Median ages of appearance after Garn, Rohmann and Silverman, "Radiographic standards for postnatal ossification", Medical
Radiography and Photography 43 (1967); order and fusion after Greulich and Pyle, "Radiographic Atlas of Skeletal Development of
the Hand and Wrist", 2nd ed. (1959). Rounded: a phantom needs the order and the lead of the girls, not the decimals.
"""

from typing import NamedTuple

import numpy as np

from baa.patient import Sex


class Ages(NamedTuple):
    """An event's age in months."""

    male: int
    female: int

    def of(self, sex: Sex) -> float:
        """Boys' or girls' age; the mean of both for an unknown sex."""
        return float({Sex.MALE: self.male, Sex.FEMALE: self.female, Sex.UNKNOWN: (self.male + self.female) / 2}[sex])


CARPAL_APPEARS = {
    "capitate": Ages(3, 2),
    "hamate": Ages(4, 3),
    "triquetrum": Ages(29, 20),
    "lunate": Ages(45, 31),
    "scaphoid": Ages(66, 49),
    "trapezium": Ages(67, 48),
    "trapezoid": Ages(69, 50),
    "pisiform": Ages(125, 100),
}
CARPAL_FULL = Ages(170, 145)
"""When the carpals reach their adult shape."""


class Epiphysis(NamedTuple):
    """A centre beside a shaft: when it appears, when it is as wide as the shaft, when it begins and ends to fuse."""

    appears: Ages
    wide: Ages
    capped: Ages
    fused: Ages


EPIPHYSES = {
    "radius": Epiphysis(Ages(12, 10), Ages(110, 90), Ages(180, 156), Ages(216, 200)),
    "ulna": Epiphysis(Ages(84, 68), Ages(150, 125), Ages(180, 156), Ages(210, 194)),
    "metacarpal": Epiphysis(Ages(20, 13), Ages(105, 84), Ages(168, 144), Ages(198, 176)),
    "metacarpal 1": Epiphysis(Ages(31, 19), Ages(105, 84), Ages(165, 140), Ages(194, 170)),
    "proximal": Epiphysis(Ages(17, 11), Ages(96, 78), Ages(162, 138), Ages(193, 170)),
    "middle": Epiphysis(Ages(26, 16), Ages(102, 82), Ages(162, 138), Ages(195, 172)),
    "distal": Epiphysis(Ages(34, 22), Ages(108, 86), Ages(156, 132), Ages(186, 160)),
}
SESAMOID_APPEARS = Ages(152, 130)

NEWBORN_LENGTH = 0.36
"""Length of a newborn's hand as a share of the adult's."""
GROWTH_ENDS = Ages(204, 180)


def growth(months: float, sex: Sex) -> float:
    """Length of the hand as a share of the adult's: fast in infancy, steady in childhood, ended with the epiphyses."""
    progress = float(np.clip(months / GROWTH_ENDS.of(sex), 0, 1))
    return NEWBORN_LENGTH + (1 - NEWBORN_LENGTH) * (0.75 * progress**0.8 + 0.25 * progress * progress * (3 - 2 * progress))


def carpal_size(bone: str, months: float, sex: Sex) -> float:
    """Size of a carpal's bony centre as a share of the full-grown carpal's: 0 before it appears."""
    appears = CARPAL_APPEARS[bone].of(sex)
    if months < appears:
        return 0.0
    return 0.22 + 0.78 * min(1.0, (months - appears) / (CARPAL_FULL.of(sex) - appears)) ** 0.6


class Cap(NamedTuple):
    """An epiphysis as it looks: width as a share of the shaft's end, height as a share of the full, the plate's gap.

    `gap` is 1 for an open growth plate, 0 for a fused one.
    """

    width: float
    height: float
    gap: float


def cap(bone: str, months: float, sex: Sex) -> Cap:
    """How far the epiphysis of a bone is: a dot, a disc, a cap wider than the shaft, a part of it."""
    stages = EPIPHYSES[bone]
    appears, wide, capped, fused = (stage.of(sex) for stage in stages)
    if months < appears:
        return Cap(0.0, 0.0, 1.0)
    widening = min(1.0, (months - appears) / (wide - appears))
    capping = float(np.clip((months - wide) / (capped - wide), 0, 1))
    closing = float(np.clip((months - capped) / (fused - capped), 0, 1))
    return Cap(0.25 + 0.75 * widening**0.8 + 0.08 * capping, 0.45 + 0.4 * widening + 0.15 * capping, 1.0 - closing)
