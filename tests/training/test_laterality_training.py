"""The network that tells mirrored hands learns from films most of which lie the same way."""

import numpy as np
import torch

from baa.data.phantom import phantom_cases
from baa.training.laterality import train_laterality


def test_hands_that_it_has_not_seen_are_told_although_some_of_its_own_lay_mirrored():
    films = [case.image.load(96).pixels for case in phantom_cases(100, seed=1)]
    for i in range(0, 100, 20):
        films[i] = films[i][:, ::-1].copy()
    torch.manual_seed(0)
    net = train_laterality(films, torch.device("cpu"))
    unseen = torch.from_numpy(np.stack([case.image.load(96).pixels for case in phantom_cases(60, seed=2)]))[:, None] / 255
    with torch.no_grad():
        assert (net(unseen) < 0).float().mean() >= 0.9
        assert (net(unseen.flip(3)) > 0).float().mean() >= 0.9
