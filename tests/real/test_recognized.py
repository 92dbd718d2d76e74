"""The packaged model warns of few hands and of nearly all images that show no single whole hand."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = pytest.mark.real

HANDS, PHANTOMS = 100, 200


@pytest.fixture(scope="module")
def films(real_data, tmp_path_factory):
    """Folders of image files: phantoms, radiographs of the test split, rotated and mirrored ones, images of no whole hand."""
    from baa.assembly.data import load_splits
    from baa.config.data_schema import DataConfig, SplitConfig
    from baa.data.ood import corruptions
    from baa.data.read.file import ImageFile
    from baa.data.sources.phantom import phantom_cases

    skimage = pytest.importorskip("skimage", reason="its example images are used: pip install scikit-image")
    folder = tmp_path_factory.mktemp("films")
    data = DataConfig(
        root=str(real_data / "rsna-384"),
        cache=str(folder / "cache"),
        source_px=384,
        split=SplitConfig(by="hash", val=0.05, test=0.06, test_ids=str(real_data / "roi.csv")),
    )
    test = load_splits(data, folder)["test"]
    rng = np.random.default_rng(0)
    hands = [test.pixels(int(i)) for i in rng.permutation(len(test.cases))[: HANDS + 30]]
    phantoms = [case.image.load(384).pixels for case in phantom_cases(PHANTOMS + 10, seed=77)]
    shown = {"hand": hands[:HANDS], "phantom": phantoms[:PHANTOMS], "rotated": [], "no_hand": []}
    shown["mirrored"] = [film[:, ::-1] for film in shown["hand"]]
    for some, count in ((hands, HANDS), (phantoms, PHANTOMS)):
        for i in range(count, len(some)):
            *rotated, half, pair, close, pieces, grains = corruptions(some[i], some[i - 1], rng)
            shown["rotated"] += rotated
            shown["no_hand"] += [half, pair, close, pieces] if i % 5 else [half, pair, close, pieces, grains]
    shown["no_hand"] += [np.full((300, 300), level, np.uint8) for level in (0, 99, 255)]
    pictures = sorted(file for file in (Path(skimage.__file__).parent / "data").iterdir() if file.suffix in (".png", ".jpg"))
    shown["no_hand"] += [ImageFile(file).load(384).pixels for file in pictures]
    for kind, levels in shown.items():
        (folder / kind).mkdir()
        for i, one in enumerate(levels):
            Image.fromarray(np.ascontiguousarray(one)).save(folder / kind / f"{i}.png")
    return folder


def test_hands_are_recognized_and_other_images_are_not(films, tmp_path):
    from baa import load_model
    from baa.inference.inputs import InputFile
    from baa.inference.listing import find_images

    model = load_model(batch_size=16)
    counted, tables = {}, {}
    for kind in ("hand", "mirrored", "phantom", "rotated", "no_hand"):
        inputs = [InputFile(file) for file in find_images([films / kind]).files]
        out = tmp_path / kind
        model.predict_files(inputs, out, overlays=False, workers=1, progress=False)
        table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
        tables[kind] = table
        counted[kind] = {
            "files": len(table),
            "warned": ((table.ood_score > 0) | table.warnings.str.contains("rotated by")).mean(),  # not of square pictures
            "unrecognized": (table.ood_score > 0).mean(),
            "rotated": table.warnings.str.contains("rotated by").mean(),
            "mirrored_yes": (table.mirrored == "yes").mean(),
            "mirrored_no": (table.mirrored == "no").mean(),
        }
    logging.getLogger(__name__).info("\n%s", pd.DataFrame(counted).T.round(3))
    hand, mirrored = tables["hand"], tables["mirrored"]
    apart = (hand.bone_age_months - mirrored.bone_age_months).abs()
    sure_side = (hand.mirrored + mirrored.mirrored).isin(["noyes", "yesno"])
    logging.getLogger(__name__).info(
        "hands and their mirror images differ by %.2f months on average, the %d with a sure side by at most %.2f",
        *(apart.mean(), sure_side.sum(), apart[sure_side].max()),
    )
    assert apart[sure_side].max() <= 7
    assert apart.mean() <= 1
    assert counted["hand"]["files"] == HANDS
    assert counted["phantom"]["files"] == PHANTOMS
    assert counted["no_hand"]["files"] >= 100
    assert counted["hand"]["warned"] <= 0.05
    assert counted["phantom"]["warned"] <= 0.05
    assert counted["no_hand"]["warned"] >= 0.95
    assert counted["no_hand"]["unrecognized"] >= 0.9
    assert counted["rotated"]["rotated"] >= 0.85
    for kind, right, wrong in (
        ("hand", "mirrored_no", "mirrored_yes"),
        ("mirrored", "mirrored_yes", "mirrored_no"),
    ):
        assert counted[kind][right] >= 0.75
        assert counted[kind][wrong] <= 0.03  # some of the films are mirrored
