"""The served page: who may use it, what it keeps and for how long, and that no request ends it for the others."""

import json
import time

import httpx
import pytest
from asking import ask, call, post, upload

from baa.errors import InputError


def kept(page):
    return [file for file in page.folder.rglob("*") if file.is_file() and file.stat().st_size]


def test_the_browser_keeps_no_history_of_runs(quick):
    config = httpx.get(f"{quick.url}/config").json()
    assert config["run_history"] is False
    assert config["footer_links"] == ["api"]
    for path in ("runs", "runs/", "run-history/list", "run-history/records", "run-history/files"):
        assert httpx.get(f"{quick.url}/gradio_api/{path}").status_code == 404
    for path in ("run-history/connect", "run-history/record", "run-history/list"):
        assert post(quick, path, json={}).status_code == 404


def test_a_page_from_elsewhere_cannot_post(quick):
    host = quick.url.removeprefix("http://")
    port = host.rpartition(":")[2]
    for origin in ("https://evil.example", "null", "http://localhost:1", f"http://127.0.0.1.evil.example:{port}"):
        refused = upload(quick, "hand.png", headers={"Origin": origin})
        assert (refused.status_code, refused.text[:8]) == (403, "Origin: ")
        assert post(quick, "queue/join", json={"data": []}, headers={"Origin": origin}).status_code == 403
    for name in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}", f"[::1:{port}", ""):
        assert upload(quick, "hand.png", headers={"Host": name}).status_code == 403
    assert kept(quick) == []

    for origin in (quick.url, "https://bone-age.example"):
        assert upload(quick, "hand.png", headers={"Origin": origin}).status_code == 200
    for name in (host, f"localhost:{port}", f"[::1]:{port}", f"10.0.0.7:{port}", "bone-age.example"):
        assert httpx.get(f"{quick.url}/config", headers={"Host": name}).status_code == 200
    assert ask(quick, upload(quick, "hand.png").json())[0] == "complete"
    assert httpx.get(f"{quick.url}/config", headers={"Host": "evil.example"}).status_code == 403


def test_one_bad_file_costs_its_own_row_and_all_files_are_deleted(quick):
    names = ["a.png", "loud.png", "no_suffix", "gone.dcm", "b.png"]
    paths = upload(quick, *names).json()
    next(file for file in kept(quick) if file.name == "gone.dcm").unlink()
    event, (films, table, csv, archive) = ask(quick, paths)
    assert event == "complete"
    assert films.count("<figure>") == 5
    rows = [dict(zip(table["headers"], row, strict=True)) for row in table["data"]]
    assert [row["file"] for row in rows] == names
    assert [row["bone_age_months"] for row in rows] == [100, "", 100, "", 100]
    assert rows[1]["error"] == "could not be read: ZeroDivisionError"
    assert rows[3]["error"].startswith("deleted, after another request")
    assert "Smith" not in json.dumps([films, table])
    assert {file.name for file in kept(quick)} <= {"predictions.csv", "overlays.zip"}
    for download in (csv, archive):
        assert httpx.get((download.get("value") or download)["url"]).status_code == 200


@pytest.mark.parametrize("what", ["sex", "count"])
def test_the_files_of_a_refused_request_go_at_once(quick, what):
    from baa.web.page import MOST_FILES

    paths = upload(quick, *(f"{i}.png" for i in range(MOST_FILES + 1 if what == "count" else 2))).json()
    event, reason = ask(quick, paths, sex="neither" if what == "sex" else "male")
    assert event == "error"
    assert what == "sex" or "201 files; at most 200" in json.dumps(reason)
    assert [file for file in kept(quick) if file.suffix == ".png"] == []


def test_a_request_cannot_delete_or_read_files_of_the_machine(quick, tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(b"film")
    event, _ = ask(
        quick, [str(own), "http://127.0.0.1:9/x.png", f"{quick.folder}/../{own.name}", "a\0b", "x" * 5000, str(quick.folder)]
    )
    assert event == "error"
    assert own.exists()


def test_a_flood_of_requests_does_not_end_the_queue(quick):
    """Gradio forgets the oldest of 2,000 sessions, and its queue ended when it had a message for that one."""
    quick.model.go.clear()
    call(quick, upload(quick, "slow.png").json())
    while len(quick.page._queue):
        time.sleep(0.01)
    accepted = refused = 0
    with httpx.Client(timeout=60) as client:
        for _ in range(120):
            status = client.post(f"{quick.url}/gradio_api/call/read", json={"data": [[], "male", False]}).status_code
            accepted, refused = accepted + (status == 200), refused + (status == 503)
    assert (accepted, refused) == (50, 70)
    messages = quick.page._queue.pending_messages_per_session
    for i in range(messages.max_size):  # as many sessions more
        messages[f"session {i}"] = messages["nobody's"]
    quick.model.go.set()
    start = time.monotonic()
    while len(quick.page._queue) and time.monotonic() - start < 30:
        time.sleep(0.1)
    assert not quick.page._queue.stopped
    assert ask(quick, upload(quick, "after.png").json())[0] == "complete"


def test_unread_uploads_are_bounded_together_and_deleted_when_old(quick, monkeypatch):
    from baa.web import access, folder

    folder.delete_older(quick.folder, time.time() + 1)
    monkeypatch.setattr(access, "UNREAD_BYTES", 20 << 20)
    monkeypatch.setattr(access, "CHECKED_BYTES", 1 << 20)
    sizes = [upload(quick, f"{i}.png", content=bytes(4 << 20)).status_code for i in range(8)]
    assert sizes == [200] * 4 + [413] * 4 or sizes == [200] * 5 + [413] * 3
    assert folder.stored_bytes(quick.folder) <= 24 << 20
    large = upload(quick, "large.png", content=bytes(64 << 20))
    assert large.status_code == 413
    assert "together; try again later" in large.text
    assert not any(file.name == "large.png" or file.name.startswith("tmp") for file in kept(quick))

    folder.delete_older(quick.folder, time.time() - folder.KEPT_SECONDS)
    assert len(kept(quick)) >= 4
    folder.delete_older(quick.folder, time.time() + 1)
    assert list(quick.folder.iterdir()) == []
    assert upload(quick, "hand.png").status_code == 200


def test_downloads_live_as_long_as_the_page_says(quick):
    from baa.web import folder
    from baa.web.page import KEPT

    assert "downloads 30 minutes later" in KEPT
    _, (_, _, csv, _) = ask(quick, upload(quick, "hand.png").json())
    url = (csv.get("value") or csv)["url"]
    now = time.time()
    folder.delete_older(quick.folder, now + 1790 - folder.KEPT_SECONDS)
    assert httpx.get(url).text.startswith("file,sex")
    folder.delete_older(quick.folder, now + 1830 - folder.KEPT_SECONDS)
    assert httpx.get(url).status_code in (403, 404)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://Bone-Age.example/", "https://bone-age.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://a.example:443", "https://a.example"),
    ],
)
def test_origins_are_written_as_browsers_send_them(origin, expected):
    from baa.web.access import check_origin

    assert check_origin(origin) == expected


@pytest.mark.parametrize("origin", ["a.example", "*", "null", "https://", "ftp://a", "https://a/b", "https://a:x", "http://[a"])
def test_what_is_no_origin_is_refused(origin):
    from baa.web.access import check_origin

    with pytest.raises(InputError, match="--allow-origin: .* is no origin; give scheme and host"):
        check_origin(origin)


def test_an_address_that_cannot_be_listened_on_is_one_line(quick):
    from baa.web.access import check_address

    taken = int(quick.url.rpartition(":")[2])
    for host, port, reason in (
        ("127.0.0.1", 99999, "--port: 99999 is not a port; choose one from 1 to 65535"),
        ("127.0.0.1", 0, "--port: 0 is not a port"),
        ("127.0.0.1", -1, "--port: -1 is not a port"),
        ("127.0.0.1", taken, f"cannot listen on 127.0.0.1:{taken}: the port is in use; choose another with --port"),
        ("no.such.invalid", 7860, "cannot listen on no.such.invalid:7860: .*; choose another with --host"),
        ("a..b", 7860, "cannot listen on a..b:7860: not a host name; choose another with --host"),
        ("192.0.2.1", 7860, "cannot listen on 192.0.2.1:7860: .*; choose another with --host"),
    ):
        with pytest.raises(InputError, match=f"^{reason}") as refused:
            check_address(host, port)
        assert "\n" not in str(refused.value)


def test_who_can_reach_it_is_said_unless_it_is_this_machine_alone(capsys, monkeypatch):
    import gradio as gr

    from baa.web.serving import wait

    silent = gr.Blocks()
    monkeypatch.setattr(silent, "block_thread", lambda: None)
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        wait(silent, host, 7860)
        assert len(capsys.readouterr().out.splitlines()) == 1
    for host in ("0.0.0.0", "::", "192.0.2.1", "hand.example"):
        wait(silent, host, 7860)
        address, warning = capsys.readouterr().out.splitlines()
        assert address.endswith("7860 (stop with Ctrl-C)")
        assert "the page is open to the network" in warning
        assert "without password and encryption" in warning
