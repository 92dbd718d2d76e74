"""The page in a real browser: upload, keyboard, slider, downloads, a bad file, a phone's window.

No request leaves this machine, and the browser keeps nothing.
"""

import base64
import io
import os
import shutil
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from baa.data.sources.phantom import phantom_cases

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
MILLISECONDS = 90_000


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    [case] = phantom_cases(1, seed=5)
    file = tmp_path_factory.mktemp("hands") / "hand.png"
    Image.fromarray(case.image.load(384).pixels).save(file)
    return file


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of the page with the packaged model, and the folder of its uploads."""
    kept = tmp_path_factory.mktemp("kept")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"TMPDIR": str(kept)}
    command = [sys.executable, "-m", "baa.app", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as app:
        line = app.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}"), line
        yield line.split()[0], kept
        app.terminate()
        app.wait(30)
    left = [file for file in kept.rglob("*") if not file.name.startswith("torchinductor")]  # torch makes that, empty
    assert left == []


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as session:
        opened = session.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser, served, **window):
    page = browser.new_context(accept_downloads=True, **window).new_page()
    page.set_default_timeout(MILLISECONDS)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(served[0])
    return page, requests


def drop(page, *files):
    page.set_input_files("#files input[type=file]", [str(file) for file in files])
    page.get_by_label("female", exact=True).check()
    page.wait_for_function("document.querySelectorAll('#files .file').length > 0 || document.querySelector('#files table')")
    page.click("#read")


def test_a_radiograph_is_uploaded_read_and_its_prediction_downloaded(browser, served, hand, tmp_path):
    page, requests = opened(browser, served, viewport={"width": 1280, "height": 1000})
    drop(page, hand)
    page.wait_for_selector("#films img.heat")
    assert "bone age" in page.inner_text("#films figcaption")
    assert page.locator("#films rect:not([stroke-dasharray])").count() == 2

    opacity = "getComputedStyle(document.querySelector('#films img.heat')).opacity"
    assert page.evaluate(opacity) == "0.5"
    slider = page.locator("#fade input[type=range]")
    slider.fill("0.1")
    page.wait_for_function(f"{opacity} === '0.1'")
    page.screenshot(path=os.environ.get("BAA_SCREENSHOTS", str(tmp_path)) + "/desktop.png", full_page=True)

    with page.expect_download() as download:
        page.click("#csv")
    table = pd.read_csv(download.value.path())
    assert list(table.file) == ["hand.png"]
    assert table.sex[0] == "female"
    assert 0 < table.bone_age_months[0] < 240
    with page.expect_download() as download:
        page.click("#pictures")
    assert download.value.suggested_filename == "overlays.zip"
    assert [file for file in served[1].rglob("hand.png") if file.is_file()] == []
    assert {urlsplit(url).hostname for url in requests if url.startswith("http")} == {"127.0.0.1"}


def test_a_film_is_read_by_keyboard_alone_and_the_browser_keeps_nothing(browser, served, hand):
    page, _ = opened(browser, served, viewport={"width": 1280, "height": 1000})
    page.on("filechooser", lambda _: None)  # else the first one may come before Playwright listens
    page.wait_for_selector("#read")
    tab_to(page, "document.activeElement.closest('#files')")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(str(hand))
    page.wait_for_function("document.querySelectorAll('#files .file').length > 0 || document.querySelector('#files table')")
    tab_to(
        page, "document.activeElement.type === 'radio' && document.activeElement.closest('label').innerText.trim() === 'female'"
    )
    page.keyboard.press("Space")
    assert page.get_by_label("female", exact=True).is_checked()
    tab_to(page, "document.activeElement.id === 'read'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#films img.heat")
    assert "bone age" in page.inner_text("#films figcaption")
    assert "female" in page.inner_text("#films figcaption")

    heat, film = (picture(page, f"#films img{kind}") for kind in (".heat", "[alt=radiograph]"))
    assert np.ptp(film.convert("L")) > 100
    boxes = page.eval_on_selector_all(
        "#films rect:not([stroke-dasharray])",
        "all => all.map(one => ['x', 'y', 'width', 'height'].map(k => +one.getAttribute(k)))",
    )
    assert len(boxes) == 2
    for x, y, width, height in boxes:  # a heat map is warm inside its box
        inside = heat.crop([round(edge * heat.width) for edge in (x, y, x + width, y + height)])
        assert np.asarray(inside.convert("RGBA")).max() > 100

    tab_to(page, "document.activeElement.closest('#fade') && document.activeElement.type === 'range'")
    page.keyboard.press("Home")
    page.wait_for_function("getComputedStyle(document.querySelector('#films img.heat')).opacity === '0'")
    for button, name in (("csv", "predictions.csv"), ("pictures", "overlays.zip")):
        tab_to(page, f"document.activeElement.closest('#{button}') || document.activeElement.id === '{button}'")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == name

    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "hand" not in kept
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("indexedDB.databases().then(all => all.length)") == 0


def tab_to(page, found):
    """Press Tab until a condition holds for the element with the focus."""
    for _ in range(60):
        if page.evaluate(f"Boolean({found})"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach: {found}")


def picture(page, selector):
    source = page.get_attribute(selector, "src")
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_a_bad_file_is_listed_beside_the_good_one(browser, served, hand, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    page, _ = opened(browser, served)
    drop(page, bad, hand)
    page.wait_for_selector("#films img.heat")
    assert "not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM" in page.inner_text("#films")
    assert page.locator("#films figure").count() == 2


def test_it_fits_a_phone(browser, served, hand, tmp_path):
    page, _ = opened(browser, served, viewport=PHONE, device_scale_factor=2)
    drop(page, hand)
    page.wait_for_selector("#films img.heat")
    page.screenshot(path=os.environ.get("BAA_SCREENSHOTS", str(tmp_path)) + "/phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("#films .film").bounding_box()["width"] <= PHONE["width"]


def test_programs_can_use_its_endpoint(served, hand):
    from gradio_client import Client, handle_file

    films, table, csv, _ = Client(served[0], verbose=False).predict([handle_file(str(hand))], "female", False, api_name="/read")
    assert "<figure>" in films
    assert table["headers"][0] == "file"
    assert list(pd.read_csv(csv if isinstance(csv, str) else csv["value"]).file) == ["hand.png"]
