"""Decoding in a process that may die: a file that ends, stalls or fills it costs that file and no other."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baa.data.read import deadline, process
from baa.data.read.decode import decode
from baa.data.read.file import ImageFile
from baa.data.read.process import decode_apart
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    file = tmp_path_factory.mktemp("film") / "film.png"
    Image.fromarray(phantom_cases(1, seed=3)[0].image.load(256).pixels).save(file)
    return file


@pytest.fixture
def decoder(film):
    """The one idle decoder of this process."""
    process._pool.close()
    ImageFile(film).load(64)
    [decoder] = process._pool.idle
    return decoder


def test_it_gives_what_decoding_in_this_process_gives(film):
    apart, here = ImageFile(film).load(96), decode(film.read_bytes(), 96)
    assert (apart.pixels == here.pixels).all()
    assert apart[1:] == here[1:]


def test_one_process_decodes_all_files(film, decoder):
    for px in (64, 128):
        assert ImageFile(film).load(px).pixels.shape == (px, px)
    with pytest.raises(InputError, match="not an image"):
        decode_apart(b"id,boneage\n", 64)
    assert process._pool.idle == [decoder]


def test_a_decoder_that_dies_costs_one_file(film, decoder):
    os.kill(decoder.process.pid, signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(InputError, match="could not be decoded: the decoder ended with code -9"):
        ImageFile(film).load(64)
    assert ImageFile(film).load(64).pixels.any()


@pytest.mark.parametrize("more", [0, 1 << 20], ids=["a small file", "a file that fills the pipe"])
def test_a_decoder_that_stalls_is_ended_at_the_deadline(film, decoder, monkeypatch, more):
    whole = film.read_bytes()
    monkeypatch.setattr(ImageFile, "read", lambda self: whole + bytes(more))
    monkeypatch.setattr(process, "DEADLINE_SECONDS", 0.5)
    os.kill(decoder.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(InputError, match="could not be decoded: it takes longer than 0.5 seconds"):
        ImageFile(film).load(64)
    assert time.monotonic() - start < 3
    assert decoder.process.poll() is not None
    monkeypatch.setattr(process, "DEADLINE_SECONDS", 10.0)
    assert ImageFile(film).load(64).pixels.any()


@pytest.mark.parametrize(
    ("waited", "computed", "state", "left"),
    [
        (4, 0, "S", 6),
        (10, 10, "R", 0),
        (10, 4, "R", 6),
        (11, 4, "S", 0),
        (11, 0, "T", 0),
        (300, 0.5, "R", 9.5),  # others have the cores
        (300, 0.5, "D", 9.5),
        (595, 0.5, "R", 5),
        (600, 0.5, "R", 0),
        (10, None, "", 0),
    ],
)
def test_on_a_busy_machine_the_time_that_a_decoder_has_computed_counts(monkeypatch, waited, computed, state, left):
    now = iter([100, 100 + waited])
    used = iter([deadline._Used(7.0, "R"), None if computed is None else deadline._Used(7.0 + computed, state)])
    monkeypatch.setattr(deadline.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(deadline, "_used", lambda _: next(used))
    assert deadline.Deadline(1, 10.0).left() == left


def test_a_file_that_needs_too_much_memory_costs_one_file(film, decoder, monkeypatch):
    monkeypatch.setattr(process, "MEMORY_BYTES", 350 << 20)
    process._pool.close()
    wide = np.zeros((6900, 6900, 3), np.uint8)
    wide[::50] = 200
    file = film.with_name("wide.png")
    Image.fromarray(wide).save(file, compress_level=1)
    with pytest.raises(InputError, match="could not be decoded"):
        ImageFile(file).load(64)
    assert ImageFile(film).load(64).pixels.any()
    process._pool.close()


def test_signals_for_the_job_do_not_end_the_decoder(film, decoder):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(decoder.process.pid, number)
    assert ImageFile(film).load(64).pixels.any()
    assert process._pool.idle == [decoder]


def test_a_decoder_whose_parent_dies_within_a_request_ends(decoder):
    decoder.process.stdin.write(b'{"px": 64, "bytes": 1000}\nhalf')
    decoder.process.stdin.close()
    assert decoder.process.wait(20) == 0
    process._pool.close()


def test_a_decoder_that_computes_on_when_nobody_waits_is_ended_by_the_system():
    endless = "from baa.data.read.serve import allow; allow(0.1); allow(0.2)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", endless], timeout=120)
    assert done.returncode == -signal.SIGXCPU


def test_threads_decode_at_the_same_time(film):
    read = []
    threads = [threading.Thread(target=lambda: read.append(ImageFile(film).load(64).pixels.sum())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 4
    assert len(set(read)) == 1


def test_a_forked_process_starts_its_own_decoder(film, decoder):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            loaded = ImageFile(film).load(64).pixels.any() and process._pool.idle != [decoder]
            process._pool.close()
            os.write(write, b"y" if loaded else b"n")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"y"
    assert ImageFile(film).load(64).pixels.any()
    assert process._pool.idle == [decoder]


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    for file in (tmp_path / "pipe.png", tmp_path / "link.png", Path("/dev/zero")):
        with pytest.raises(InputError, match="not a regular file"):
            ImageFile(file).load(64)
        with pytest.raises(InputError, match="not a regular file"):
            ImageFile(file).fingerprint()


def test_nothing_of_a_header_reaches_standard_error(capfd):
    from dicom_file import PLANTED, dicom

    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for tags in ({"SpecificCharacterSet": PLANTED}, {"PatientAge": PLANTED}, {"BodyPartExamined": PLANTED}):
        assert PLANTED not in str(decode_apart(dicom(levels, **tags), 64).notes)
    assert PLANTED not in "".join(capfd.readouterr())
