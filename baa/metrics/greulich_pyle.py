"""The standard deviation of bone age among healthy children of one age.

Standard deviations of the skeletal age by chronological age and sex in the Brush Foundation's study, from the tables in W. W.
Greulich and S. I. Pyle, Radiographic Atlas of Skeletal Development of the Hand and Wrist, 2nd edition, Stanford University
Press 1959. The study measured white children of Cleveland in the 1930s; people read the films. The tables also have means, up
to half a deviation above the chronological age. They are not used: by convention, deviations count from the chronological age.
"""

import numpy as np

from baa.patient import Sex

AGES_MONTHS = (3, 6, 9, 12, 18, 24, 30, 36, 42, 48, 54, 60, 72, 84, 96, 108, 120, 132, 144, 156, 168, 180, 192, 204)

DEVIATIONS_MONTHS = {
    Sex.MALE: (
        *(0.69, 1.13, 1.43, 1.97, 3.52, 3.92, 4.52, 5.08, 5.40, 6.66, 8.36, 8.79),
        *(9.17, 8.91, 9.10, 9.00, 9.79, 10.09, 10.38, 10.44, 10.72, 11.32, 12.86, 13.05),
    ),
    Sex.FEMALE: (
        *(0.72, 1.16, 1.36, 1.77, 3.49, 4.64, 5.37, 5.97, 7.48, 8.98, 10.73, 11.65),
        *(10.23, 9.64, 10.23, 10.74, 11.73, 11.94, 10.24, 10.67, 11.30, 9.23, 7.31),
    ),
}
"""Standard deviations at `AGES_MONTHS`; the table of girls ends at 16 years."""


def standard_deviation(age_months: float, sex: Sex) -> float | None:
    """Return the standard deviation of bone age at a chronological age, in months, interpolated linearly.

    Returns:
        None for an unknown sex and outside the table: below 3 months, above 17 years for boys and 16 for girls.

    Example:
        >>> standard_deviation(120.0, Sex.MALE)
        9.79
        >>> standard_deviation(120.0, Sex.UNKNOWN) is None
        True
    """
    deviations = DEVIATIONS_MONTHS.get(sex)
    if deviations is None or not AGES_MONTHS[0] <= age_months <= AGES_MONTHS[len(deviations) - 1]:
        return None
    return float(np.interp(age_months, AGES_MONTHS[: len(deviations)], deviations))
