"""Files are there whole or not at all."""

import pytest

from baa.atomic_io import replacing, write_whole
from baa.errors import InputError


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "new folder" / "overlay.png"
    write_whole(file, "old")

    def fail_half_way():
        with replacing(file) as fresh:
            assert fresh.suffix == file.suffix
            fresh.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"overlay.png cannot be written: No space left on device"):
        fail_half_way()
    assert [path.name for path in file.parent.iterdir()] == ["overlay.png"]
    assert file.read_text() == "old"


def test_a_file_in_the_place_of_its_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(InputError, match=r"out/metrics.json cannot be written: (File exists|Not a directory)"):
        write_whole(tmp_path / "out" / "metrics.json", "{}")
