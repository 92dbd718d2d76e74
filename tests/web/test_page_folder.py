"""The page's temporary folder is gone after the page, even after one that was killed; a living page keeps its own."""

import os
import signal
import stat
import subprocess
import sys
import tempfile

import pytest

from baa.web.folder import page_folder

PAGE = """
import sys, time
from baa.web.folder import page_folder
with page_folder() as folder:
    (folder / "hand.png").write_text("film")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def start_page():
    page = subprocess.Popen([sys.executable, "-c", PAGE], stdout=subprocess.PIPE, text=True)
    return page, page.stdout.readline().strip()


def test_a_killed_pages_folder_is_deleted_by_the_next_one(tmp_path):
    alive, kept = start_page()
    dead, left = start_page()
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    (tmp_path / "baa_page_link").symlink_to(tmp_path / "other")
    (tmp_path / "other").mkdir()
    assert os.path.exists(left)  # noqa: PTH110
    with page_folder() as own:
        assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700
        assert not os.path.exists(left)  # noqa: PTH110
        assert os.path.exists(f"{kept}/hand.png")  # noqa: PTH110
        with page_folder():
            assert own.is_dir()
    alive.kill()
    alive.wait()
    assert (tmp_path / "other").is_dir()
    with page_folder():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["baa_page_link", "other"]
