"""Pictures that do not declare their polarity: the guess turns negatives and leaves positives."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from baa.data.read.polarity import is_negative

pytestmark = pytest.mark.real

FILMS = 400


def test_negatives_are_recognized_and_positives_left(real_data):
    from baa.data.sources.rsna import read_rsna
    from baa.data.splits import assign_splits

    cases, _ = read_rsna(real_data / "rsna-384")
    test = [case for case in assign_splits(cases, by="hash", seed=0, val_share=0.05, test_share=0.06) if case.split == "test"]
    chosen = np.random.default_rng(2).permutation(len(test))[:FILMS]
    films = [np.asarray(Image.open(io.BytesIO(test[i].image.read())).convert("L")) for i in chosen]
    negatives, positives = (np.mean([is_negative(picture) for picture in kind]) for kind in ([255 - f for f in films], films))
    logging.getLogger(__name__).info("of %d: %.2f %% negatives, %.2f %% positives", FILMS, 100 * negatives, 100 * positives)
    assert negatives >= 0.99
    assert positives <= 0.005
