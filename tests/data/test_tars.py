"""Tars of any origin: what cannot be read in place says why, in one line."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile

import pytest
from PIL import Image

from baa.data.sources.rsna import read_rsna
from baa.errors import InputError


@pytest.fixture
def film():
    stream = io.BytesIO()
    Image.new("L", (8, 10), 50).save(stream, "PNG")
    return stream.getvalue()


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", size) if size < 0 else b"\x80" + bytes(3) + struct.pack(">q", size)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def packed(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def read(folder, content):
    (folder / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    (folder / "t.tar").write_bytes(content)
    return read_rsna(folder)


def test_a_compressed_tar_is_refused_by_what_it_is(tmp_path, film):
    for kind, compress in (("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)):
        with pytest.raises(InputError, match=rf"t.tar is compressed \({kind}\), .*; unpack it"):
            read(tmp_path, compress(packed(("7.png", film))))


DAMAGED = {
    "negative": header("7.png", -512),
    "far back": packed(("a.png", b"1"))[:1024] + header("7.png", -2048),
    "huge": header("7.png", 400 << 20) + bytes(2048),
    "negative pax": header("p", -512, tarfile.XHDTYPE) + bytes(2048),
    "huge pax": header("p", 1 << 40, tarfile.XHDTYPE) + bytes(2048),
    "huge name": header("p", 1 << 40, tarfile.GNUTYPE_LONGNAME) + bytes(2048),
    "chain of pax": (header("p", 512, tarfile.XHDTYPE) + b"11 path=abc\n".ljust(512, b"\0")) * 20_000,
    "global pax": (header("p", 512, tarfile.XGLTYPE) + b"11 path=abc\n".ljust(512, b"\0")) * 20_000,
    "negative folder": header("d", -512, b"9"),
    "text": b"no tar" * 1000,
    "empty": b"",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_tar_is_refused_in_one_line(tmp_path, kind):
    with pytest.raises(InputError, match="t.tar is truncated or not a tar: .*; copy it again") as error:
        read(tmp_path, DAMAGED[kind])
    assert len(str(error.value).splitlines()) == 1


def test_a_truncated_tar_is_refused(tmp_path, film):
    with pytest.raises(InputError, match=r"the member 7.png ends beyond the file; copy it again"):
        read(tmp_path, packed(("7.png", film))[:560])


def test_a_sparse_or_too_large_member_is_a_bad_row(tmp_path, film):
    sparse = packed(("8.png", film))[:1024]
    (tmp_path / "large.tar").write_bytes(header("7.png", 6 << 30))
    os.truncate(tmp_path / "large.tar", (6 << 30) + 2048)
    cases, (problem,) = read(tmp_path, sparse + bytes(1024))
    assert cases == []
    assert problem.reason.endswith("large.tar:7.png has 6,144 MiB; the limit is 512")

    (tmp_path / "large.tar").unlink()
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("7.png")
        info.size = len(film)
        info.pax_headers = {"GNU.sparse.map": f"0,{len(film)}", "GNU.sparse.size": str(6 << 30)}
        tar.addfile(info, io.BytesIO(film))
    cases, (problem,) = read_rsna(tmp_path)
    assert problem.reason.endswith("t.tar:7.png is a sparse member; unpack the tar")


def test_a_folder_or_pipe_named_tar_or_png_is_none(tmp_path, film):
    (tmp_path / "x.tar" / "7.png").mkdir(parents=True)
    os.mkfifo(tmp_path / "y.tar")
    os.mkfifo(tmp_path / "t.csv.csv")
    (case,), problems = read(tmp_path, packed(("__MACOSX/7.png", b"x"), ("._7.png", b"x"), ("a/7.png", film)))
    assert problems == []
    assert case.image.member == "a/7.png"
