"""Measure prose in Markdown: sentences of paragraphs and list items, without code, tables, headings and comments."""

import re
from statistics import median, quantiles

FEWEST = 3
"""Shorter ones, such as a bold lead, are no sentences."""

ABBREVIATIONS = ("et al.", "e.g.", "i.e.", "vs.")


def paragraphs(markdown):
    """Return the paragraphs and list items of a page as lines of plain text."""
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.S)
    text = re.sub(r"^(```|~~~).*?^\1\s*$", "\n", text, flags=re.S | re.M)
    text = re.sub(r"^\s*(#+ |\|).*$", "\n", text, flags=re.M)
    text = re.sub(r"^\s*([-*>]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "code", text)
    text = text.replace("**", "").replace("*", "")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentence_lengths(markdown):
    """Return the number of words of each sentence. Inline code counts as one word; a colon does not end a sentence."""
    lengths = []
    for paragraph in paragraphs(markdown):
        for short in ABBREVIATIONS:
            paragraph = paragraph.replace(short, short.rstrip("."))
        sentences = re.split(r"(?<=[.!?])\s+", paragraph)
        counts = [len(re.findall(r"\w[\w'./%-]*", sentence)) for sentence in sentences]
        lengths += [count for count in counts if count >= FEWEST]
    return lengths


def measure(markdown):
    """Return the median and the 90th percentile of sentence lengths, in words."""
    lengths = sentence_lengths(markdown)
    return median(lengths), quantiles(lengths, n=10)[-1]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    for name in sys.argv[1:]:
        sys.stdout.write("{}: median {:g}, 90th percentile {:.1f} words\n".format(name, *measure(Path(name).read_text())))
