"""The page answers for thousands of damaged and hostile films, each with an age or a reason, and keeps none of them."""

import logging
import resource
import time

import pytest
from asking import ask, post
from fuzzed import fuzzed, header_fuzzed

from baa.data.sources.phantom import phantom_cases

COUNT, SECONDS, GIB = 2000, 5.0, 1 << 30

DRAWN = 20
"""One film in this many is drawn: pictures cost more than the reading."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [fuzzed, header_fuzzed])
def test_the_page_answers_for_each_of_two_thousand_films(tiny, kind, monkeypatch):
    from baa.web import page
    from baa.web.page import MOST_FILES

    pack = page.overlays_zip
    monkeypatch.setattr(page, "overlays_zip", lambda predictions, names: pack(predictions[::DRAWN], names[::DRAWN]))
    monkeypatch.setattr(page, "MOST_SHOWN", MOST_FILES // DRAWN)
    [case] = phantom_cases(1, seed=3)
    films = list(kind(case.image.load(240).pixels[:, 20:-20], COUNT, seed=2))
    refused, slowest = 0, 0.0
    for first in range(0, COUNT, MOST_FILES):
        some = films[first : first + MOST_FILES]
        paths = post(tiny, "upload", files=[("files", film) for film in some]).json()
        start = time.monotonic()
        event, (_, table, _, _) = ask(tiny, paths)
        assert event == "complete"
        slowest = max(slowest, (time.monotonic() - start) / len(some))
        rows = [dict(zip(table["headers"], row, strict=True)) for row in table["data"]]
        assert [row["file"] for row in rows] == [name for name, _ in some]
        errors = [row["error"] for row in rows]
        assert [bool(error) for error in errors] == [row["bone_age"] == "" for row in rows]
        assert not [error for error in errors if "\n" in error or "could not be" in error]
        refused += sum(map(bool, errors))
    figures = "%s: %d films, %d refused, %.2f s a film in the slowest request"
    logging.getLogger(__name__).info(figures, kind.__name__, COUNT, refused, slowest)
    assert slowest < SECONDS
    kept = {file.name for file in tiny.folder.rglob("*") if file.is_file() and file.stat().st_size}  # Gradio leaves empty ones
    assert kept == {"predictions.csv", "overlays.zip"}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * GIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2 * GIB
