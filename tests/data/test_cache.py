"""The cache is built once, keyed by content, and used only when complete."""

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import forked
import numpy as np
import pytest
from torch.utils.data import DataLoader

from baa.data import cache
from baa.data.batch import RadiographDataset, whole_batch
from baa.data.cache import open_cache
from baa.data.cases import Case, Problem
from baa.data.read.file import ImageFile
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError, one_line
from baa.patient import Sex


@pytest.fixture
def hands():
    return phantom_cases(5, seed=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cache_returns_the_decoded_pixels(tmp_path, hands, workers):
    radiographs = open_cache(hands, folder=tmp_path, px=48, workers=workers)

    assert [case.id for case in radiographs.cases] == [case.id for case in hands]
    for index, case in enumerate(hands):
        np.testing.assert_array_equal(radiographs.pixels(index), case.image.load(48).pixels)


def test_a_view_that_averages_blocks_anyway_reads_the_halved_pixels(tmp_path, hands):
    radiographs = open_cache(hands, folder=tmp_path, px=96, workers=1)
    halved = radiographs.for_views(40)
    blocks = radiographs.pixels(1).reshape(48, 2, 48, 2).mean(axis=(1, 3))

    assert halved.px == 48
    np.testing.assert_allclose(halved.pixels(1), blocks, atol=0.5)


@pytest.mark.parametrize("px", [96, 60, 32])
def test_a_view_of_the_full_or_a_third_of_the_side_reads_the_full_pixels(tmp_path, hands, px):
    radiographs = open_cache(hands, folder=tmp_path, px=96, workers=1)

    assert radiographs.for_views(px) is radiographs


def test_opening_a_second_time_decodes_nothing(tmp_path, hands, monkeypatch):
    open_cache(hands, folder=tmp_path, px=48, workers=1)
    monkeypatch.setattr(cache, "_build", lambda *_: pytest.fail("decoded again"))

    assert len(open_cache(hands, folder=tmp_path, px=48, workers=1).cases) == 5


def test_other_images_or_another_size_make_another_cache(tmp_path, hands):
    for cases, px in ((hands, 48), (hands, 32), (hands[:4], 48)):
        open_cache(cases, folder=tmp_path, px=px, workers=1)

    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_a_killed_build_is_not_used(tmp_path, hands, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_decode_row", killed)
        with pytest.raises(KeyboardInterrupt):
            open_cache(hands, folder=tmp_path, px=48, workers=1)
    assert [path.name for path in tmp_path.iterdir() if ".building" in path.name]

    radiographs = open_cache(hands, folder=tmp_path, px=48, workers=1)
    np.testing.assert_array_equal(radiographs.pixels(4), hands[4].image.load(48).pixels)
    assert not [path.name for path in tmp_path.iterdir() if ".building" in path.name]


def damage(file, how):
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "zeros":  # a crash of the machine, before the disk had the blocks
        file.write_bytes(content[:1000] + bytes(len(content) - 1000))
    elif how == "offsets":
        place = content.index(np.array([0, 48 * 48, 2 * 48 * 48], np.int64).tobytes())
        file.write_bytes(content[: place + 8] + b"\xff" * 8 + content[place + 16 :])
    else:
        file.write_bytes(content[: {"empty": 0, "header": 20, "half": len(content) // 2, "end": -16}[how]])


@pytest.mark.parametrize("how", ["empty", "header", "half", "zeros", "offsets", "gone"])
def test_a_damaged_cache_is_built_again_and_says_so_in_one_line(how, tmp_path, hands, caplog):
    caplog.set_level("INFO")
    open_cache(hands, folder=tmp_path, px=48, workers=1)
    (file,) = tmp_path.glob("*/*.arrow")
    damage(file, how)

    again = open_cache(hands, folder=tmp_path, px=48, workers=1)
    assert caplog.messages == [f"data.cache: {file.parent} is damaged; it is built again"]
    np.testing.assert_array_equal(again.pixels(4), hands[4].image.load(48).pixels)
    open_cache(hands, folder=tmp_path, px=48, workers=1)
    assert len(caplog.messages) == 1


FULL = """
import resource, sys
from pathlib import Path
import datasets
from baa.cli import run_command
from baa.data.cache import open_cache
from baa.data.sources.phantom import phantom_cases

datasets.disable_progress_bars()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # fails as a full disk does
run_command(lambda: open_cache(phantom_cases(30, seed=0), folder=Path(sys.argv[1]), px=96, workers=int(sys.argv[2])))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_with_and_without_workers(workers, tmp_path):
    done = forked.run(["-W", "ignore", "-c", FULL, tmp_path, workers])

    assert done.returncode == 2
    assert (
        done.stderr
        == f"baa: data.cache: {tmp_path}: File too large; free disk space, check permissions, or give another folder\n"
    )


def test_an_image_that_cannot_be_opened_is_a_problem_and_stops_no_other(tmp_path, hands):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    gone = Case("gone", ImageFile(tmp_path / "gone.png"), 60.0, Sex.MALE)

    radiographs = open_cache([*hands, gone], folder=tmp_path / "cache", px=48, workers=1)
    assert len(radiographs.cases) == 5
    (problem,) = radiographs.problems
    assert (problem.id, problem.reason) == ("gone", "No such file or directory")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, hands):
    (tmp_path / "cache").write_text("")
    with pytest.raises(
        InputError, match=r"data.cache: .*cache: File exists; free disk space, check permissions, or give another folder"
    ):
        open_cache(hands, folder=tmp_path / "cache", px=48, workers=1)


class Unreliable(NamedTuple):
    """An image that can be read only while the file `mounted` exists."""

    mounted: Path
    name: str = "unreliable"

    def fingerprint(self):
        return b"unreliable"

    def load(self, px):
        if not self.mounted.exists():
            raise OSError(errno.EIO, "Input/output error")
        return phantom_cases(1, seed=3)[0].image.load(px)


def test_an_image_that_could_not_be_read_is_tried_again_later(tmp_path, hands):
    cases = [*hands, Case("unreliable", Unreliable(tmp_path / "mounted"), 60.0, Sex.MALE)]
    for _ in range(2):
        radiographs = open_cache(cases, folder=tmp_path / "cache", px=48, workers=1)
        assert [problem.reason for problem in radiographs.problems] == ["Input/output error"]

    (tmp_path / "mounted").touch()
    (kept,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert open_cache(cases, folder=tmp_path / "cache", px=48, workers=1).problems  # too soon
    os.utime(kept, (0, 0))
    radiographs = open_cache(cases, folder=tmp_path / "cache", px=48, workers=1)
    assert [case.id for case in radiographs.cases][-1] == "unreliable"
    np.testing.assert_array_equal(radiographs.pixels(5), cases[5].image.load(48).pixels)


@dataclass(frozen=True)
class Broken:
    """An image whose reader fails in a way that it does not foresee."""

    name: str = "broken.png"

    def fingerprint(self):
        return b"broken"

    def load(self, px):
        raise ZeroDivisionError("Doe^Jane")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unexpected_error_is_a_problem_of_its_file_alone(tmp_path, hands, workers):
    radiographs = open_cache([*hands, replace(hands[0], id="b", image=Broken())], folder=tmp_path, px=48, workers=workers)
    assert len(radiographs.cases) == 5
    assert radiographs.problems == [Problem("b", "broken.png", "could not be read: unexpected ZeroDivisionError")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_names_the_file_whose_pixels_are_damaged_in_one_line(tmp_path, hands, workers):
    radiographs = open_cache(hands, folder=tmp_path, px=48, workers=1)
    dataset = RadiographDataset(radiographs._replace(px=47))
    loader = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=whole_batch)
    with pytest.raises(InputError) as refusal:
        next(iter(loader))
    expected = (
        f"{hands[0].image.name}: its pixels cannot be read from the cache (ValueError); remove {radiographs.key} in data.cache"
    )
    assert str(one_line(refusal.value)) == expected
