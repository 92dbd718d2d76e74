"""Checks of a TIFF's structure before Pillow reads it. EXIF data in other formats have the same structure."""

import struct
from typing import NamedTuple

from baa.errors import InputError

MAX_PAGES = 8
MAX_TAGS = 256
MAX_TAG_BYTES = 32 << 20
"""Of all tags of a page, pixels not among them. Offsets of strips and tiles are the largest."""

PARTS, MAX_PARTS = frozenset({273, 324}), 200_000
"""Offsets of strips and of tiles. The smallest tiles, 16 pixels wide, of the largest image are as many."""

INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WIDTH, HEIGHT, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT, LAYERS, TILE_LAYERS = 256, 257, 262, 322, 323, 32997, 32998
SIDES = frozenset({WIDTH, HEIGHT, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT, LAYERS, TILE_LAYERS})
WHITE_IS_ZERO = 0

TILE_ROOM = 4096
"""A tile may be this much larger than the image. Tiles of small images are often larger than the image."""


class Page(NamedTuple):
    """One image of a TIFF: its size, whether the lowest value is white, and its place."""

    width: int
    height: int
    white_is_zero: bool
    number: int


def read_pages(data: bytes) -> list[Page]:
    """Read the sizes of the images in a TIFF.

    Raises:
        InputError: the structure is damaged, or its parts are too many or too large.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30)).save(file, "TIFF")
        >>> read_pages(file.getvalue())
        [Page(width=40, height=30, white_is_zero=False, number=0)]
    """
    try:
        return _pages(data)
    except struct.error:
        raise InputError("the TIFF structure is truncated or damaged") from None


def _pages(data: bytes) -> list[Page]:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = struct.unpack(f"{order}H", data[2:4])[0] if order else 0
    if version not in (42, 43):
        raise InputError("the TIFF structure is damaged at its beginning")
    big = version == 43
    count_code, entry_code, offset_code = (
        (f"{order}Q", f"{order}HHQ", f"{order}Q") if big else (f"{order}H", f"{order}HHI", f"{order}I")
    )
    count_size, entry_size, field = (8, 20, 8) if big else (2, 12, 4)
    (offset,) = struct.unpack_from(offset_code, data, 8 if big else 4)
    pages, seen = list[Page](), set[int]()
    while offset:
        if offset in seen or len(pages) >= MAX_PAGES:
            raise InputError(f"the TIFF has more than {MAX_PAGES} pages, or pages that refer to each other")
        seen.add(offset)
        (tags,) = struct.unpack_from(count_code, data, offset)
        if tags > MAX_TAGS:
            raise InputError(f"the TIFF has {tags} tags; the limit is {MAX_TAGS}")
        values, total = dict[int, int](), 0
        for i in range(tags):
            place = offset + count_size + i * entry_size
            tag, kind, count = struct.unpack_from(entry_code, data, place)
            size = SIZES.get(kind, 1) * count
            total += size
            if tag in PARTS and count > MAX_PARTS:
                raise InputError(f"the TIFF has {count:,} strips or tiles; the limit is {MAX_PARTS:,}")
            if tag in SIDES:
                if kind not in INTEGERS or count < 1 or size > field or tag in values:
                    raise InputError(f"the TIFF tag {tag} is not one whole number")
                (values[tag],) = struct.unpack_from(f"{order}{INTEGERS[kind]}", data, place + entry_size - field)
        if total > MAX_TAG_BYTES:
            raise InputError(f"the TIFF has tags of {total >> 20} MiB; the limit is {MAX_TAG_BYTES >> 20}")
        width, height = values.get(WIDTH, 0), values.get(HEIGHT, 0)
        for name, tile, side in (("wide", TILE_WIDTH, width), ("high", TILE_HEIGHT, height)):
            if values.get(tile, 0) > side + TILE_ROOM:
                raise InputError(f"the TIFF has tiles {values[tile]} pixels {name} in an image of {width} x {height}")
        if max(values.get(LAYERS, 1), values.get(TILE_LAYERS, 1)) > 1:
            raise InputError("the TIFF has several layers; give one radiograph per file")
        pages.append(Page(width, height, values.get(PHOTOMETRIC) == WHITE_IS_ZERO, len(pages)))
        (offset,) = struct.unpack_from(offset_code, data, offset + count_size + tags * entry_size)
    if not pages:
        raise InputError("the TIFF holds no image")
    return pages
