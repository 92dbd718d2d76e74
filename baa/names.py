"""Names and cells of foreign origin, made safe to print, to write into a table and to name a file."""

import unicodedata
from pathlib import PurePath

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or cannot show: controls, marks of direction, lone surrogates, line separators."""

UNDECODED = 0xDC00
"""Python adds this to a byte of a file name that is not UTF-8."""

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""A spreadsheet executes cells that begin with one of these, also in full width."""


def printable(text: str) -> str:
    r"""Escape control characters, line breaks, and bytes that are not UTF-8.

    Example:
        >>> printable("a\x1b[2Jb\udcff")
        'a\\x1b[2Jb\\xff'
    """
    return text if text.isascii() and text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if unicodedata.category(char) not in HIDDEN:
        return char
    if UNDECODED + 0x80 <= ord(char) <= UNDECODED + 0xFF:
        return f"\\x{ord(char) - UNDECODED:02x}"
    return char.encode("unicode_escape").decode()


def safe_cell(text: str) -> str:
    """Make a text safe in a CSV file: printable, and no formula. A formula gets a leading apostrophe, which means text."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


def safe_path(path: str) -> str:
    """Make a path safe in a CSV file: printable, and no formula. A relative path that looks like one gets a leading `./`."""
    shown = printable(path)
    return f"./{shown}" if shown.lstrip().startswith(FORMULA) else shown


def file_stem(name: str, most_bytes: int) -> str:
    """Make a name that a file system takes: hidden characters become `_`, and it has at most `most_bytes` bytes in UTF-8."""
    shown = "".join("_" if unicodedata.category(char) in HIDDEN else char for char in name)
    return shown.encode()[:most_bytes].decode(errors="ignore")


def match_key(name: str) -> str:
    """Return the same text for names that differ in Unicode form, capitals, path separators or surrounding blanks alone."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "/".join(part for part in folded.strip().replace("\\", "/").split("/") if part != ".")


def is_mac_attributes(path: PurePath) -> bool:
    """Return whether a file holds what a Mac's ZIP archives and network folders keep beside the file of that name."""
    return path.name.startswith("._") or "__MACOSX" in path.parts
