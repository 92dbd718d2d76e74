"""Cases that a source model was trained on are counted by their pixels; a run notices that its data has been edited."""

import contextlib
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_run import settings

from baa.checkpoints.provenance import Provenance, id_digest, own_provenance
from baa.data.cache import open_cache
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.patient import Sex
from baa.training.seen_cases import RunCases, log_seen_cases

SIZES = {"train": 14, "val": 6, "test": 10}


@pytest.fixture
def splits(tmp_path):
    """Radiographs by split; make(seed, prefix of ids, shift of the splits)."""

    def make(seed=0, prefix="", px=96, shift=0):
        cases = [replace(case, id=f"{prefix}{i}") for i, case in enumerate(phantom_cases(30, seed=seed))]
        names = [name for name, count in SIZES.items() for _ in range(count)]
        names = names[shift:] + names[:shift]
        every = open_cache(cases, folder=tmp_path, px=px, workers=1)
        return {name: every.keep([other == name for other in names]) for name in SIZES}

    return make


def logged(caplog, source_models, cases):
    caplog.set_level("INFO")
    caplog.clear()
    log_seen_cases(source_models, cases)
    return caplog.text


def test_radiographs_under_other_ids_are_counted_and_equal_ids_of_other_radiographs_are_not(splits, caplog):
    source = own_provenance(splits(), None)
    assert logged(caplog, source, splits(prefix="renamed-")) == ""

    renamed = splits(prefix="renamed-")
    turned = {"train": renamed["test"], "val": renamed["train"], "test": renamed["val"]}
    text = logged(caplog, source, turned)
    assert "14 of the 14 val cases were trained or chosen on" in text
    assert "6 of the 6 test cases were trained or chosen on by a source model: test MAE will be too optimistic" in text

    assert logged(caplog, source, splits(seed=7)) == ""


def test_the_cases_that_chose_a_source_model_may_choose_again(splits, caplog):
    cases = splits()
    assert logged(caplog, own_provenance(cases, None), cases) == ""


def test_a_radiograph_in_two_splits_is_counted(splits, caplog):
    cases = splits()
    twice = cases | {"test": cases["train"].keep([i < 3 for i in range(14)])}
    assert "3 of the 3 test cases have the same radiograph as a training case" in logged(caplog, Provenance(), twice)


def test_ids_alone_are_called_what_they_are(splits, caplog):
    old = Provenance(seen_ids=frozenset(id_digest(str(number)) for number in range(30)))
    text = logged(caplog, old, splits(seed=7))
    assert "10 of the 10 test cases have the id of a case that a source model was trained or chosen on" in text
    assert "an equal id from another source counts as seen, the same radiograph under another id does not" in text
    assert logged(caplog, old, splits(prefix="renamed-")) == ""


def test_ten_thousand_radiographs_take_32_bytes_each_and_survive_being_kept():
    kept = Provenance(frozenset(bytes(row) for row in torch.randint(256, (10_000, 32)).tolist()), unrecorded=("ab",))
    tensors = kept.tensors()
    assert tensors["trained"].nbytes == 320_000
    assert Provenance.read(tensors, (), ["ab"]) == kept


def begin(folder, cases):
    RunCases(folder, cases).keep(begun=False)


def go_on(folder, cases):
    RunCases(folder, cases).keep(begun=True)


def changed(cases, split, index, **changes):
    """The splits with another label of one case."""
    some = cases[split].cases
    return cases | {split: cases[split]._replace(cases=[*some[:index], replace(some[index], **changes), *some[index + 1 :]])}


def test_a_run_goes_on_with_the_cases_that_it_began_with(splits, tmp_path):
    begin(tmp_path, splits())
    written = (tmp_path / "cases.csv").read_bytes()
    go_on(tmp_path, splits())
    assert (tmp_path / "cases.csv").read_bytes() == written
    begin(tmp_path, splits(shift=10))  # until a stage has begun
    assert (tmp_path / "cases.csv").read_bytes() != written


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda make: changed(make(), "train", 0, months=100.5), r"1 cases, such as 0, .* \(1 of another age\)"),
        (lambda make: changed(make(), "test", 3, months=None), r"1 cases, such as 23, .* \(1 of another age\)"),
        (lambda make: changed(make(), "val", 1, sex=Sex.UNKNOWN), r"1 cases, such as 15, .* \(1 of another sex\)"),
        (lambda make: changed(make(), "test", 0, capitate=(0.1, 0.2)), r"1 cases, .* \(1 with other annotations\)"),
        (lambda make: changed(make(), "train", 2, id="x"), r"2 cases, such as 2, .* \(1 new, 1 gone\)"),
        (lambda make: make(shift=3), r"9 cases, .* \(9 in another split\)"),
        (lambda make: make(px=64), r"30 cases, .* \(30 with another image\)"),
        (lambda make: make(prefix="renamed-"), r"60 cases, .* \(30 new, 30 gone\)"),
        (lambda make: make() | {"test": make()["test"].keep([True] * 8 + [False] * 2)}, r"2 cases, such as 28, .* \(2 gone\)"),
    ],
)
def test_any_other_case_or_label_stops_the_run_with_the_count(splits, tmp_path, other, said):
    begin(tmp_path, splits())
    message = f"cases.csv: {said}; restore the original data, or give another name="
    with pytest.raises(InputError, match=message) as refusal:
        go_on(tmp_path, other(splits))
    assert "\n" not in str(refusal.value)


def test_another_order_of_the_same_cases_stops_the_run(splits, tmp_path):
    cases = splits()
    begin(tmp_path, cases)
    some = cases["train"]
    turned = cases | {"train": some._replace(cases=some.cases[::-1], row=some.row[::-1])}
    with pytest.raises(InputError, match="cases.csv: the order of the cases differs from the start of this run; restore"):
        go_on(tmp_path, turned)


def test_cases_of_an_earlier_version_are_compared_by_the_columns_that_it_wrote(splits, tmp_path):
    cases = splits()
    begin(tmp_path, cases)
    table = pd.read_csv(tmp_path / "cases.csv", dtype=str, keep_default_na=False)
    table = table.drop(columns=["image", "annotations"]).assign(fingerprint="00")
    table.to_csv(tmp_path / "cases.csv", index=False)
    go_on(tmp_path, cases)
    table.to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(InputError, match=r"\(1 of another age\)"):
        go_on(tmp_path, changed(cases, "train", 0, months=100.5))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, brief_finish):
    """The folder of a finished locator on a table of files, `ours.csv`."""
    folder = tmp_path_factory.mktemp("trained")
    hands = phantom_cases(40, seed=9)
    for i, case in enumerate(hands):
        Image.fromarray(case.image.load(96).pixels).save(folder / f"{i}.png")
    ages, sexes = [round(case.months) for case in hands], [case.sex.name.lower() for case in hands]
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(40)], "age": ages, "sex": sexes})
    table.to_csv(folder / "ours.csv", index=False)
    fit(folder)
    return folder


@pytest.fixture(params=["finished", "interrupted"])
def run_folder(request, trained, tmp_path):
    """A copy of it and of its data, as it is or as it was before the end of its stage."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    if request.param == "interrupted":
        (tmp_path / "tiny" / "metrics.json").unlink()
    return tmp_path


def fit(folder, *more):
    from baa.config.load import load
    from baa.training.run import run

    place = ["data.source=table", "data.table.file=ours.csv", "stages=[locator]", "locator.fit.epochs=1", *more]
    with contextlib.chdir(folder):
        return run(load([], settings(".", *place)))


def edited(folder, **columns):
    table = pd.read_csv(folder / "ours.csv")
    for column, value in columns.items():
        table.loc[7, column] = value
    table.to_csv(folder / "ours.csv", index=False)


def another_picture(folder):
    Image.fromarray(phantom_cases(1, seed=77)[0].image.load(96).pixels).save(folder / "7.png")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda folder: edited(folder, age=3), "1 of another age"),
        (lambda folder: edited(folder, sex="unknown"), "1 of another sex"),
        (lambda folder: pd.read_csv(folder / "ours.csv").drop(index=[3, 7]).to_csv(folder / "ours.csv"), "2 gone"),
        (another_picture, "1 with another image"),
    ],
)
def test_data_that_change_before_the_next_start_are_refused(run_folder, edit, said):
    edit(run_folder)
    before = {file: file.read_bytes() for file in run_folder.glob("tiny/**/*.*") if file.name not in ("config.yaml", ".lock")}
    with pytest.raises(
        InputError, match=rf"differ from the start of this run \({said}\); restore the original data, or give another name="
    ):
        fit(run_folder)
    assert {file: file.read_bytes() for file in before} == before


def test_a_checkpoint_knows_its_cases_where_the_list_is_lost(run_folder):
    (run_folder / "tiny" / "cases.csv").unlink()
    edited(run_folder, age=3)
    with pytest.raises(
        InputError, match=r"last.ckpt: the cases differ from those of this checkpoint; restore the original data"
    ):
        fit(run_folder)
    assert not (run_folder / "tiny" / "cases.csv").exists()


def test_the_same_data_under_a_new_cache_go_on(run_folder):
    metrics = fit(run_folder, "data.cache=elsewhere")
    assert metrics["locator"]["test/mae"] > 0


def test_weights_files_are_recorded_or_called_unknown(finished, tmp_path, caplog, splits):
    from baa.checkpoints.load import digest, load_model
    from baa.config.load import load
    from baa.training.initial_weights import SourceModels

    checkpoint, plain = finished[0] / "tiny" / "locator" / "best.ckpt", tmp_path / "plain.pth"
    torch.save({"weight": torch.zeros(3)}, plain)
    given = [f"locator.backbone.weights={checkpoint}", f"estimator.hand.weights={plain}"]
    sources = SourceModels(load([], settings(tmp_path, *given)))

    assert sources.provenance(["locator"]) == load_model(checkpoint).provenance
    assert sources.provenance(["estimator"]).unrecorded == (digest(plain),)
    text = logged(caplog, sources.provenance(["estimator"]), splits())
    assert "no record of their training radiographs" in text
