"""Both sides of the race for crops do the same work."""

import pytest

pytest.importorskip("pytorch_grad_cam", reason="the peers are not installed: pip install -e '.[bench]'")


def test_the_peer_cuts_the_same_crops():
    from baa.benchmarks.cropping import require_same_crops

    require_same_crops()


def test_other_crops_are_no_race(monkeypatch):
    from baa.benchmarks import cropping

    theirs = cropping.peer_crops

    def swapped(locator):
        crops = theirs(locator)
        return lambda source: crops(source)[::-1]

    monkeypatch.setattr(cropping, "peer_crops", swapped)
    with pytest.raises(RuntimeError, match="the carpal crops of both sides differ"):
        cropping.require_same_crops()
