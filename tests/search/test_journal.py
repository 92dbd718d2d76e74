"""A journal whose last record was cut short is read up to the record before; any other damage is refused in one line."""

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from baa.errors import InputError
from baa.search.journal import repair_journal


def study(journal):
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


@pytest.fixture
def journal(tmp_path):
    """The journal of three trials."""
    study(tmp_path / "trials.journal").optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    (tmp_path / "trial-000.log").write_text("")
    return tmp_path / "trials.journal"


@pytest.mark.parametrize("end", [b'{"op_code": 6, "wor', b"\0" * 64, b"\0" * 64 + b"\n"])
def test_a_record_cut_short_at_the_end_is_dropped(end, journal, capsys):
    journal.write_bytes(journal.read_bytes() + end)
    repair_journal(journal)

    assert "the last record was cut short" in capsys.readouterr().err
    again = study(journal)
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(study(journal).trials) == 4


def test_a_whole_journal_is_left_as_it_is(journal, capsys):
    before = journal.read_bytes()
    repair_journal(journal)
    assert (journal.read_bytes(), capsys.readouterr().err) == (before, "")


def test_an_earlier_record_that_is_damaged_is_refused(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], lines[1][:5] + b"\n", *lines[2:]]))
    with pytest.raises(InputError, match=rf"trials.journal: line 2 of {len(lines)} is damaged; restore it, or choose another"):
        repair_journal(journal)


def test_an_empty_journal_is_refused_once_trials_have_been_started(journal):
    journal.write_bytes(b"")
    with pytest.raises(InputError, match="trials.journal: empty, but trials have been started; restore it, or choose another"):
        repair_journal(journal)
    (journal.parent / "trial-000.log").unlink()
    repair_journal(journal)
