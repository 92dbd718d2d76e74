"""A card or a checkpoint's record with other values is read, or refused in one line, soon and with little memory."""

import copy
import json
import logging
import resource
import shutil
import time

import numpy as np
import pytest
import torch
from fuzzed import with_other_bytes

from baa.errors import InputError

COUNT, SECONDS, GIB = 500, 5.0, 1 << 30

VALUES = [
    *(None, True, 0, -1, 1, 2, 63, 10**4, 10**7, 2**62, 10**30, 0.0, -0.5, 1e-30, 1e30, 1e308, float("nan"), float("inf")),
    *("", " ", "0", "none", "male", "resnet50", "test_resnet", "../../etc", "/dev/zero", "${seed}", "${oc.env:HOME}"),
    *("a" * 5000, "\x1b[2J", "\ud800", "日本", [], {}, [[]], [0], [None], ["8"], ["x"] * 100, {"": 0}, {"a": {"b": {}}}),
]


def places(part, path=()):
    """The path of every value below."""
    below = part.items() if isinstance(part, dict) else enumerate(part[:3]) if isinstance(part, list) else ()
    for key, value in below:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(description, rng):
    """Change, remove or add one to three values of a description, those of `seen` apart: they are long."""
    description = copy.deepcopy(description)
    for _ in range(int(rng.integers(1, 4))):
        paths = list(places({name: part for name, part in description.items() if "seen" not in str(name)}))
        *above, last = paths[int(rng.integers(len(paths)))]
        parent = description
        for key in above:
            parent = parent[key]
        value = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
        match int(rng.integers(5)):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, dict):
                parent["x" if rng.random() < 0.8 else "${seed}"] = value
            case _:
                parent[last] = value
    return description


def is_refused(file):
    """Load a model; return whether it was refused, which takes one line and little time."""
    from baa.checkpoints.load import load_model

    start, refusal = time.process_time(), None
    try:
        load_model(file)
    except InputError as error:
        refusal = str(error)
    assert time.process_time() - start < SECONDS
    assert refusal is None or len(refusal.splitlines()) == 1
    return refusal is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["card", "bytes of a card", "record of a checkpoint"])
def test_no_description_of_hundreds_ends_or_stalls_the_loading(finished, tmp_path, kind):
    rng, stage, refused = np.random.default_rng(0), finished[0] / "tiny" / "estimator", 0
    bundle = shutil.copytree(stage / "bundle", tmp_path / "bundle")
    card = (bundle / "card.json").read_bytes()
    checkpoint = torch.load(stage / "best.ckpt", weights_only=True)
    for _ in range(COUNT):
        if kind == "record of a checkpoint":
            torch.save(checkpoint | {"baa": changed(checkpoint["baa"], rng)}, tmp_path / "best.ckpt")
            refused += is_refused(tmp_path / "best.ckpt")
            continue
        new = json.dumps(changed(json.loads(card), rng)).encode() if kind == "card" else with_other_bytes(card, rng)
        (bundle / "card.json").write_bytes(new)
        refused += is_refused(bundle)
    logging.getLogger(__name__).info("%s: %d, %d refused", kind, COUNT, refused)
    assert 50 < refused <= COUNT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 4 * GIB
