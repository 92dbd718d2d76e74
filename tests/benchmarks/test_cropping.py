"""Both sides of the crops benchmark cut the same crops."""

import pytest

pytest.importorskip("pytorch_grad_cam", reason="the peers are not installed: pip install -e '.[bench]'")


def test_the_peer_cuts_the_same_crops():
    from baa.benchmarks.cropping import require_same_crops

    require_same_crops()


def test_a_peer_that_cuts_other_crops_is_refused(monkeypatch):
    from baa.benchmarks import cropping

    theirs = cropping.peer_crops

    def swapped(locator):
        cut = theirs(locator)

        def crops(source):
            found = cut(source)
            return dict(zip(found, reversed(found.values()), strict=True))

        return crops

    monkeypatch.setattr(cropping, "peer_crops", swapped)
    with pytest.raises(RuntimeError, match="the carpal crops of both sides differ"):
        cropping.require_same_crops()
