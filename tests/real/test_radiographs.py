"""What must hold on real radiographs: RSNA's, with the boxes and points that were drawn on some of them."""

import pytest

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cohort(real_data, tmp_path_factory):
    from baa.assembly.data import read_cohort
    from baa.config.schema import Data, Split

    folder = tmp_path_factory.mktemp("real")
    data = Data(
        root=str(real_data / "rsna-640"),
        cache=str(folder / "cache"),
        source_px=320,
        roi=str(real_data / "roi.csv"),
        capitate=str(real_data / "capitate.csv"),
        split=Split(by="hash", test_ids=str(real_data / "roi.csv")),
    )
    return read_cohort(data, folder)


def test_every_radiograph_is_read_and_none_is_taken_twice(cohort):
    ids = [case.id for radiographs in cohort.values() for case in radiographs.cases]
    assert len(ids) == len(set(ids)) == 1164


def test_no_radiograph_with_a_drawn_box_is_trained_on(cohort):
    drawn = {split: sum(case.carpal is not None for case in cohort[split].cases) for split in cohort}
    assert drawn["train"] == drawn["val"] == 0
    assert drawn["test"] > 10


def test_an_id_has_one_split_in_every_folder(cohort, real_data):
    from baa.data.sources.table import read_rsna
    from baa.data.splits import assign_splits

    cases, problems = read_rsna(real_data / "rsna-384")
    assert not problems
    larger = {case.id: case.split for case in assign_splits(cases, by="hash", seed=0, val_share=0.1, test_share=0.1)}
    for split in ("train", "val"):
        assert all(larger[case.id] == split for case in cohort[split].cases)


def test_drawn_wrist_boxes_hold_the_drawn_capitates(cohort):
    """Two people, two files, two conventions: they agree only if both are read right."""
    inside = [
        case.carpal.x0 < case.capitate[0] < case.carpal.x1 and case.carpal.y0 < case.capitate[1] < case.carpal.y1
        for case in cohort["test"].cases
        if case.carpal and case.capitate
    ]
    assert len(inside) > 10
    assert sum(inside) / len(inside) > 0.95


def test_a_locator_learns_from_real_radiographs(real_data, tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    config = load(
        None,
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
    assert metrics["test/mae"] < 24  # always saying the mean age is wrong by 33
    assert metrics["test/r2"] > 0.5
