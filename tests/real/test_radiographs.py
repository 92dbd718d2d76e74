"""Facts about the RSNA radiographs, some of which have annotated boxes and points."""

import pytest

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def splits(real_data, tmp_path_factory):
    from baa.assembly.data import load_splits
    from baa.config.data_schema import DataConfig, SplitConfig

    folder = tmp_path_factory.mktemp("real")
    data = DataConfig(
        root=str(real_data / "rsna-640"),
        cache=str(folder / "cache"),
        source_px=320,
        roi=str(real_data / "roi.csv"),
        capitate=str(real_data / "capitate.csv"),
        split=SplitConfig(by="hash", test_ids=str(real_data / "roi.csv")),
    )
    return load_splits(data, folder)


def test_every_radiograph_is_read_and_none_is_taken_twice(splits):
    ids = [case.id for radiographs in splits.values() for case in radiographs.cases]
    assert len(ids) == len(set(ids)) == 1164


def test_no_radiograph_with_an_annotated_box_is_trained_on(splits):
    annotated = {split: sum("carpal" in case.gt_boxes for case in splits[split].cases) for split in splits}
    assert annotated["train"] == annotated["val"] == 0
    assert annotated["test"] > 10


def test_an_id_has_one_split_in_every_folder(splits, real_data):
    from baa.data.sources.rsna import read_rsna
    from baa.data.splits import assign_splits

    cases, problems = read_rsna(real_data / "rsna-384")
    assert not problems
    larger = {case.id: case.split for case in assign_splits(cases, by="hash", seed=0, val_share=0.1, test_share=0.1)}
    for split in ("train", "val"):
        assert all(larger[case.id] == split for case in splits[split].cases)


def test_annotated_wrist_boxes_hold_the_annotated_capitates(splits):
    """Two annotators, two files, two conventions: they agree only if both are read correctly."""
    inside = [
        box.x0 < case.capitate[0] < box.x1 and box.y0 < case.capitate[1] < box.y1
        for case in splits["test"].cases
        if case.capitate and (box := case.gt_boxes.get("carpal"))
    ]
    assert len(inside) > 10
    assert sum(inside) / len(inside) > 0.95


def test_a_locator_learns_from_real_radiographs(real_data, tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    config = load(
        [],
        [
            "name=real",
            f"runs={tmp_path}",
            f"data.cache={tmp_path}/cache",
            f"data.root={real_data / 'rsna-640'}",
            f"data.split.test_ids={real_data / 'roi.csv'}",
            "data.source_px=192",
            "stages=[locator]",
            "locator.backbone.name=tf_efficientnet_lite0",
            "locator.px=160",
            "locator.head=distribution",
            "locator.fit={epochs: 3, optimizer: adamw, lr: 1e-3, schedule: onecycle, loss: l1}",
            "trainer.progress=false",
        ],
    )
    metrics = run(config)["locator"]
    assert metrics["test/mae"] < 24  # the mean age for every case has 33
    assert metrics["test/r2"] > 0.5
