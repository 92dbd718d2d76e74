"""Whether a hand lies mirrored."""

import torch

from baa.nets.laterality import Laterality


def test_a_mirror_image_is_the_opposite():
    torch.manual_seed(0)
    net = Laterality()
    torch.nn.init.normal_(net.layers[-1].weight)
    source = torch.rand(3, 1, 192, 192)
    told = net(source)
    assert (told.abs() > 1e-3).all()
    assert torch.allclose(net(source.flip(3)), -told, atol=1e-5)


def test_untrained_it_is_sure_of_nothing():
    assert (Laterality()(torch.rand(2, 1, 96, 96)) == 0).all()
