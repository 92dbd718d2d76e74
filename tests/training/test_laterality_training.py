"""The network that detects mirrored hands learns from films of which most lie the same way."""

import numpy as np
import torch

from baa.data.sources.phantom import phantom_cases
from baa.data.sources.phantom.exposure import expose
from baa.training.laterality import train_laterality


def test_unseen_mirrored_hands_are_detected_although_some_training_hands_were_mirrored():
    films = [case.image.load(96).pixels for case in phantom_cases(100, seed=1)]
    for i in range(0, 100, 20):
        films[i] = films[i][:, ::-1].copy()
    torch.manual_seed(0)
    net = train_laterality(films, torch.device("cpu"))
    unseen = [case.image for case in phantom_cases(60, seed=2)]
    right_hands = [_right(hand) for hand in unseen]
    with torch.no_grad():
        assert (net(_batch([hand.load(96).pixels for hand in unseen])) < 0).float().mean() >= 0.9
        assert (net(_batch(right_hands)) > 0).float().mean() >= 0.9


def _right(hand):
    """The other hand of the same child, its lead letter not in mirror writing."""
    pose = hand.pose.copy()
    pose[0] = [0, 0, 1] - pose[0]
    return expose(hand.pieces, pose, hand.scale, 96, film=hand._rng(3), grain=hand._rng(4))


def _batch(films):
    return torch.from_numpy(np.stack(films))[:, None] / 255
