"""Names of foreign origin on a terminal, in a table, and as names of files."""

import os
import unicodedata

import pytest

from baa.names import file_stem, match_key, printable, safe_cell, safe_path


@pytest.mark.parametrize(
    ("text", "shown"),
    {
        "a\x1b[2Jb": "a\\x1b[2Jb",
        "a\rb\nc": "a\\rb\\nc",
        os.fsdecode(b"a\xff"): "a\\xff",
        "evil\u202egnp.exe": "evil\\u202egnp.exe",
        "a\u2028b\ud800": "a\\u2028b\\ud800",
        "\u00c4rm \u00a0\u65e5\u672c": "\u00c4rm \u00a0\u65e5\u672c",
    }.items(),
)
def test_what_a_terminal_obeys_is_escaped_and_letters_are_not(text, shown):
    assert printable(text) == shown
    shown.encode()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d", " ="])
def test_no_cell_is_a_formula(start):
    assert safe_cell(f"{start}HYPERLINK()") == f"'{start}HYPERLINK()"
    assert safe_path(f"{start}x.png") == f"./{start}x.png"
    assert safe_cell("7") == "7"
    assert safe_cell("\t=1") == "\\t=1"


def test_a_stem_has_at_most_so_many_bytes_and_no_hidden_characters():
    assert file_stem(os.fsdecode(b"a\xff\r") + "b", 240) == "a__b"
    assert file_stem("\u00e4" * 200, 241) == "\u00e4" * 120


def test_names_match_whatever_their_unicode_form_capitals_and_separators():
    assert match_key(unicodedata.normalize("NFD", "B\\J\u00d6RG.PNG ")) == match_key("./b/j\u00f6rg.png")
    assert match_key("b/1.png") != match_key("b1.png")
