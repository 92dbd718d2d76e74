"""The members of a tar, to be read in place."""

import tarfile
from pathlib import Path
from typing import BinaryIO

from baa.data.read.file import MAX_BYTES, ImageFile
from baa.data.regular import open_regular
from baa.errors import InputError
from baa.names import printable

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
"""By the first bytes of a file."""

MAX_HEADER_BYTES = 1 << 20


class _Headers:
    """A file of which only headers are read: a damaged size must not read the rest of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.file = file.seek, file.tell, file

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {count} bytes")
        return self.file.read(count)


def tar_images(tar: Path) -> list[tuple[ImageFile, str]]:
    """List the files in a tar, each with the reason why it cannot be read in place, or an empty text.

    Raises:
        InputError: the tar is compressed, truncated or damaged.
    """
    try:
        with open_regular(tar) as file:
            first = file.read(8)
            end = file.seek(0, 2)
            file.seek(0)
            for signature, kind in COMPRESSIONS.items():
                if first.startswith(signature):
                    raise InputError(f"{tar} is compressed ({kind}), so its images cannot be read in place; unpack it")
            return _members(tar, file, end)
    except InputError:
        raise
    except Exception as error:  # damaged headers make tarfile raise anything, RecursionError too
        reason = printable(str(error)) or type(error).__name__
        raise InputError(f"{tar} is truncated or not a tar: {reason}; copy it again") from error


def _members(tar: Path, file: BinaryIO, end: int) -> list[tuple[ImageFile, str]]:
    found: list[tuple[ImageFile, str]] = []
    before = -1
    with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.size < 0 or member.offset_data <= before:
                raise tarfile.ReadError(f"the member {member.name} has an impossible size")
            before = member.offset_data
            if member.issparse():
                found.append((ImageFile(tar, before, 0, member.name), "is a sparse member; unpack the tar"))
            elif member.isfile() and member.size > MAX_BYTES:
                too_large = f"has {member.size >> 20:,} MiB; the limit is {MAX_BYTES >> 20}"
                found.append((ImageFile(tar, before, 0, member.name), too_large))
            elif member.isfile():
                if before + member.size > end:
                    raise tarfile.ReadError(f"the member {member.name} ends beyond the file")
                found.append((ImageFile(tar, before, member.size, member.name), ""))
    return found
