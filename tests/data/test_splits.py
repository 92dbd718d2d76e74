"""An id has one split, on every machine and whatever cases are added."""

import pytest

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.data.splits import assign_splits
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
