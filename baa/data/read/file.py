"""The location of a radiograph: a file, or a member of a tar."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from baa.data.read.process import decode_apart
from baa.data.read.radiograph import Radiograph
from baa.data.regular import open_regular
from baa.errors import InputError

SAMPLE_BYTES = 4096
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_BYTES = 512 << 20

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom")


@dataclass(frozen=True)
class ImageFile:
    """The location of an image: a file, or bytes of a tar.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tar = Path(folder, "hands.tar")
        ...     _ = tar.write_bytes(b"header, image, header")
        ...     member = ImageFile(tar, offset=8, size=5, member="7.png")
        ...     member.read(), member.name.endswith("hands.tar:7.png")
        (b'image', True)
    """

    path: Path
    offset: int = 0
    size: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def fingerprint(self) -> bytes:
        """Return bytes that change with any edit of the file.

        For a PNG, which ends in a checksum: its size, first and last bytes. For other files: a hash of all bytes.
        """
        with open_regular(self.path) as file:
            size = self.size if self.size is not None else file.seek(0, io.SEEK_END)
            file.seek(self.offset)
            first = file.read(min(size, SAMPLE_BYTES))
            if not first.startswith(PNG_SIGNATURE):
                return first + hashlib.sha256(file.read(min(size, MAX_BYTES) - len(first))).digest()
            file.seek(self.offset + max(0, size - SAMPLE_BYTES))
            return b"%d:" % size + first + file.read(min(size, SAMPLE_BYTES))

    def read(self) -> bytes:
        """Read the bytes of the image.

        Raises:
            InputError: it is no regular file, or larger than `MAX_BYTES`.
            OSError: it cannot be opened or read.
        """
        with open_regular(self.path) as file:
            size = self.size if self.size is not None else file.seek(0, io.SEEK_END)
            if size > MAX_BYTES:
                raise InputError(f"the file has {size >> 20} MiB; the limit is {MAX_BYTES >> 20}")
            file.seek(self.offset)
            return file.read(size)

    def load(self, px: int) -> Radiograph:
        """Decode in a process apart, and pad to a square of `px`.

        Raises:
            InputError: as `decode`, `read` and `decode_apart`.
            OSError: it cannot be opened or read.
        """
        return decode_apart(self.read(), px)
