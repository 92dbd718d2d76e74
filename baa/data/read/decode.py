"""The bytes of a file to a radiograph, in this process. `process.py` does it in a process that may die."""

import io

from baa.data.read.dicom import read_dicom
from baa.data.read.header import is_dicom
from baa.data.read.picture import read_picture
from baa.data.read.radiograph import Radiograph
from baa.data.read.square import make_radiograph
from baa.errors import InputError

MAX_PIXELS = 48_000_000
"""A film of 24 x 30 cm at 600 dpi has 40 million."""


def decode(data: bytes | io.BytesIO, px: int) -> Radiograph:
    """Decode an image file or a DICOM file to a square radiograph of `px`.

    Args:
        data: the file. An open file is closed as soon as its bytes are not needed, which frees memory.
        px: side of the square.

    Raises:
        InputError: the bytes are no such image, are damaged or truncated, or hold more than `MAX_PIXELS`.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.linear_gradient("L").resize((200, 160)).save(file, "PNG")
        >>> radiograph = decode(file.getvalue(), 64)
        >>> radiograph.pixels.shape, radiograph.width, radiograph.height
        ((64, 64), 200, 160)
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    if not file.getvalue():
        raise InputError("the file is empty")
    gray = read_dicom(file, MAX_PIXELS) if is_dicom(file.getvalue()) else read_picture(file, MAX_PIXELS)
    height, width = gray.levels.shape
    if min(height, width) < 2:
        raise InputError(f"the image has only {width} x {height} pixels")
    return make_radiograph(gray, px)
