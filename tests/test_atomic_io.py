"""Files are complete or unchanged."""

import pytest

from baa.atomic_io import atomic_path, make_folder, write_atomic
from baa.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "new folder" / "overlay.png"
    write_atomic(file, "old")

    def fail_halfway():
        with atomic_path(file) as temporary:
            assert temporary.suffix == file.suffix
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"overlay.png: cannot write the file \(No space left on device\); free disk space"):
        fail_halfway()
    assert [path.name for path in file.parent.iterdir()] == ["overlay.png"]
    assert file.read_text() == "old"


def test_a_file_with_the_name_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out/metrics.json: cannot write the file \((File exists|Not a directory)\); choose"):
        write_atomic(tmp_path / "out" / "metrics.json", "{}")
    with pytest.raises(InputError, match=r"out: cannot make the folder \(File exists\); choose another folder"):
        make_folder(tmp_path / "out")
