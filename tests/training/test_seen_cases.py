"""Cases that a source model was trained on are counted by their pixels; a run notices that its data has been edited."""

from dataclasses import replace

import pytest
import torch
from tiny_run import settings

from baa.checkpoints.provenance import Provenance, id_digest, own_provenance
from baa.data.cache import open_cache
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
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
    assert "6 of the 6 test cases were trained or chosen on by a source model: test MAE will look too good" in text

    assert logged(caplog, source, splits(seed=7)) == ""


def test_the_cases_that_chose_a_source_model_may_choose_again(splits, caplog):
    cases = splits()
    assert logged(caplog, own_provenance(cases, None), cases) == ""


def test_a_radiograph_in_two_splits_is_counted(splits, caplog):
    cases = splits()
    twice = cases | {"test": cases["train"].keep([i < 3 for i in range(14)])}
    assert "3 of the 3 test cases show the radiograph of a training case" in logged(caplog, Provenance(), twice)


def test_ids_alone_are_called_what_they_are(splits, caplog):
    old = Provenance(seen_ids=frozenset(id_digest(str(number)) for number in range(30)))
    text = logged(caplog, old, splits(seed=7))
    assert "10 of the 10 test cases have the id of a case that a source model was trained or chosen on" in text
    assert "equal ids of another source are counted, radiographs under another id are not" in text
    assert logged(caplog, old, splits(prefix="renamed-")) == ""


def test_ten_thousand_radiographs_take_32_bytes_each_and_survive_being_kept():
    kept = Provenance(frozenset(bytes(row) for row in torch.randint(256, (10_000, 32)).tolist()), unrecorded=("ab",))
    tensors = kept.tensors()
    assert tensors["trained"].nbytes == 320_000
    assert Provenance.read(tensors, (), ["ab"]) == kept


def test_a_test_case_that_was_trained_on_under_any_id_stops_the_run(splits, tmp_path):
    RunCases(tmp_path, splits()).keep(begun=False)
    RunCases(tmp_path, splits()).keep(begun=True)
    for prefix in ("", "renamed-"):
        with pytest.raises(
            InputError, match=r"cases.csv: \d+ (val|test) cases, such as .*, were trained or chosen on when this"
        ):
            RunCases(tmp_path, splits(prefix=prefix, shift=10)).keep(begun=True)
    RunCases(tmp_path, splits(shift=10)).keep(begun=False)


def test_an_edited_age_stops_the_run_and_new_cases_do_not(splits, tmp_path, caplog):
    caplog.set_level("INFO")
    cases = splits()
    RunCases(tmp_path, cases).keep(begun=False)
    first = cases["train"].cases[0]
    edited = cases["train"]._replace(cases=[replace(first, months=first.months + 12), *cases["train"].cases[1:]])
    with pytest.raises(InputError, match=r"1 cases, such as 0, had another age or sex when this run began"):
        RunCases(tmp_path, cases | {"train": edited}).keep(begun=True)

    RunCases(tmp_path, cases | {"test": cases["test"].keep([True] * 8 + [False] * 2)}).keep(begun=True)
    assert "2 cases fewer than when this run began" in caplog.text


@pytest.mark.usefixtures("brief_finish")
def test_a_table_that_is_edited_between_two_starts_is_noticed(tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    def start(test, stages):
        (tmp_path / "ids.csv").write_text("id\n" + "\n".join(case.id for case in test))
        short = ["data.phantom.count=40", "locator.fit.epochs=1", f"data.split.test_ids={tmp_path / 'ids.csv'}"]
        run(load([], settings(tmp_path, *short, "data.split.test=0", f"stages={stages}")))

    hands = phantom_cases(40, seed=0)
    start(hands[:6], "[locator]")
    with pytest.raises(InputError, match=r"\d+ test cases, such as .*, were trained or chosen on when this run began; restore"):
        start(hands[-6:], "[locator,estimator]")


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
    assert "does not say which radiographs it was trained on" in text
