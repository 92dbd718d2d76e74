"""Messages, help texts and captions use plain American English: code returns and detects, it does not know or tell."""

import ast
import re
from pathlib import Path

import pytest

import baa

PACKAGE = Path(baa.__file__).parent

OLD_NAMES = ("config/renamed.py", "checkpoints/upgrade.py")
"""Files with names of earlier versions."""

VERBS = "hear|hears|tell|tells|told|know|knows|want|wants|speak|speaks|say|says|said|sees|believes|thinks"
CROWDS = "nobody|everybody|anybody|whoever|whatever|goes on"
BRITISH = (
    r"colour\w*|grey\w*|centre\w*|behaviour|favour\w*|metres?|labelled|cancelled|catalogue|"
    r"\w+(?:alis|anis|gnis|imis|aris|onis)(?:e|ed|es|ing)"
)
ODD = re.compile(rf"\b(?:{VERBS}|{CROWDS}|{BRITISH})\b", re.IGNORECASE)

ALLOWED = (
    "do not treat anybody by its answers",  # as in the cards of published bundles
)


def texts(source: str) -> list[tuple[int, str]]:
    """The strings of a file that may reach a user, by line: no docstrings, no names, no annotations."""
    tree = ast.parse(source)
    ignored = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            ignored |= {id(part) for part in ast.walk(node.slice)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in ignored]
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str) and " " in node.value]


def odd_words(source: str) -> list[str]:
    found = []
    for line, text in texts(source):
        for allowed in ALLOWED:
            text = text.replace(allowed, "")
        found += [f"line {line}: {match[0]}" for match in ODD.finditer(text)]
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).as_posix() not in OLD_NAMES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_no_message_has_an_odd_word(file):
    assert odd_words(file.read_text()) == []


def test_an_odd_word_is_found_in_a_message_and_not_in_a_docstring():
    assert odd_words('"""It knows no file."""\nraise Error(f"{file}: torch sees none, and it is grey")') == [
        "line 2: sees",
        "line 2: grey",
    ]
