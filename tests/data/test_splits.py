"""An id has one split, on every machine and whatever cases are added."""

from dataclasses import replace

import numpy as np
import pytest

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.data.splits import assign_splits, deal_folds
from baa.errors import InputError
from baa.patient import Sex


def cases(ids, split=None):
    return [Case(str(i), Phantom(0, i, 60.0, Sex.MALE), 60.0, Sex.MALE, split) for i in ids]


def test_shares_are_near_the_settings():
    splits = [case.split for case in assign_splits(cases(range(5000)), val_share=0.1, test_share=0.2)]

    assert splits.count("val") / 5000 == pytest.approx(0.1, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)


def test_adding_cases_moves_none():
    few = {case.id: case.split for case in assign_splits(cases(range(100)))}
    many = {case.id: case.split for case in assign_splits(cases(range(1000)))}

    assert few.items() <= many.items()


def test_the_split_of_an_id_is_the_same_on_every_machine():
    assert [case.split for case in assign_splits(cases([1377, 1393, 1406, 1422]), seed=0)] == ["val", "train", "train", "train"]


def test_test_ids_are_in_the_test_split():
    test_ids = frozenset(str(i) for i in range(50))
    assert {case.split for case in assign_splits(cases(range(50)), test_ids=test_ids)} == {"test"}


def test_the_sources_split_is_used_and_a_missing_one_refused_with_the_remedy():
    assert assign_splits(cases([1], "val"))[0].split == "val"
    mixed = cases([1], "val") + cases([2, 3, 4])
    with pytest.raises(InputError, match=r"2 of 4 cases, such as 2, have no split .*data.split.by=hash"):
        assign_splits(mixed, by="source", test_ids=frozenset({"4"}))


def test_a_source_without_validation_cases_has_them_drawn_from_its_training_cases():
    splits = [
        case.split for case in assign_splits(cases(range(1000), "train") + cases(range(1000, 1100), "test"), val_share=0.1)
    ]
    assert splits.count("val") / 1000 == pytest.approx(0.1, abs=0.03)
    assert splits[1000:] == ["test"] * 100
    with_own = assign_splits(cases(range(1000), "train") + cases([1000], "val"), val_share=0.1)
    assert [case.split for case in with_own].count("val") == 1


def test_a_source_without_its_own_split_is_tested_whole_by_a_model_that_has_seen_none_of_it():
    def tested(given, seen, **settings):
        splits = assign_splits(cases(given), is_seen=lambda case: case.id in seen, **settings)
        return sum(case.split == "test" for case in splits)

    assert tested(range(200), set()) == 200
    drawn = sum(case.split == "test" for case in assign_splits(cases(range(200))))
    assert tested(range(200), {"17"}) == tested(range(200), set(), by="hash") == drawn < 40
    own = assign_splits(cases(range(5), "val") + cases(range(5, 8), "test"), is_seen=lambda case: False)
    assert [case.split for case in own] == ["val"] * 5 + ["test"] * 3


def patients(count, seed=0):
    """Cases of different ages and both sexes; every third is a second radiograph of the patient before."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        months, sex = float(rng.uniform(0, 228)), (Sex.MALE, Sex.FEMALE)[int(rng.random() < 0.4)]
        patient = f"p{i - (i % 3 == 2)}"
        made.append(Case(str(i), Phantom(0, i, months, sex), months, sex, patient=patient))
    return made


def test_each_case_outside_the_test_split_is_validated_in_one_fold_and_the_test_split_stays():
    given = patients(400)
    runs = [assign_splits(given, folds=5, fold=fold, test_share=0.2) for fold in range(5)]
    tested = [{case.id for case in run if case.split == "test"} for run in runs]
    validated = [case.id for run in runs for case in run if case.split == "val"]

    assert all(ids == tested[0] for ids in tested)
    assert 40 < len(tested[0]) < 120
    assert sorted(validated) == sorted({case.id for case in given} - tested[0])
    assert all({case.split for case in run} == {"train", "val", "test"} for run in runs)


def test_folds_have_equal_sizes_sexes_and_ages():
    given = cases_of_all_ages(500)
    dealt = deal_folds(given, 5)
    folds = [[case for case in given if dealt[case.id] == fold] for fold in range(5)]
    girls = [sum(case.sex == Sex.FEMALE for case in fold) for fold in folds]
    young = [sum(case.months < 72 for case in fold) for fold in folds]

    assert max(map(len, folds)) - min(map(len, folds)) <= 2
    assert max(girls) - min(girls) <= 6  # at most one of each of the ten age bands, in part
    assert max(young) - min(young) <= 6
    assert len({np.mean([case.months for case in fold]).round(0) for fold in folds}) > 1  # they are drawn, not sorted


def cases_of_all_ages(count):
    return [replace(case, patient="") for case in patients(count)]


def test_the_seed_draws_other_folds_and_the_order_of_the_cases_does_not():
    given = cases_of_all_ages(100)
    assert deal_folds(given, 4) == deal_folds(given[::-1], 4)
    assert deal_folds(given, 4) != deal_folds(given, 4, seed=1)


def test_all_radiographs_of_a_patient_have_one_split():
    given = patients(300)
    for settings in ({"folds": 5, "fold": 2}, {}, {"test_ids": frozenset({"0", "2", "7"})}):
        split_of = {}
        for case in assign_splits(given, **settings):
            assert split_of.setdefault(case.patient, case.split) == case.split
        assert set(split_of.values()) == {"train", "val", "test"}
    split_of = {case.id: case.split for case in assign_splits(given, test_ids=frozenset({"2"}))}
    assert split_of["1"] == split_of["2"] == "test"  # of one patient


def test_a_patient_in_two_splits_of_the_source_is_refused():
    one, other = (Case(name, Phantom(0, 0, 60.0, Sex.MALE), 60.0, Sex.MALE, name, patient="p") for name in ("train", "test"))
    with pytest.raises(InputError, match=r"patient: p has radiographs in train \(train\) and test \(test\); give all"):
        assign_splits([one, other])


def test_folds_of_a_source_with_a_split_take_its_training_and_validation_cases():
    given = cases(range(40), "train") + cases(range(40, 50), "val") + cases(range(50, 60), "test")
    splits = [case.split for case in assign_splits(given, folds=5, fold=4)]
    assert (splits.count("val"), splits.count("train"), splits[50:]) == (10, 40, ["test"] * 10)
    few = assign_splits(given[-10:], folds=5, is_seen=lambda case: True)  # a test of a model of one fold
    assert {case.split for case in few} == {"test"}
    with pytest.raises(InputError, match="data.split.folds: 2 cases or patients for 3 folds; give fewer folds"):
        deal_folds(cases(range(2)), 3)
