"""Ask a served page as a program does: upload files, ask for their ages."""

import json

import httpx


def post(page, path, *, headers=None, **content):
    return httpx.post(f"{page.url}/gradio_api/{path}", headers=headers, timeout=600, **content)


def upload(page, *names, content=b"film", **more):
    return post(page, "upload", files=[("files", (name, content + name.encode())) for name in names], **more)


def call(page, paths, sex="male"):
    """Ask as a program does; return the id of the request."""
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    return post(page, "call/read", json={"data": [files, sex, False]}).json()["event_id"]


def ask(page, paths, sex="male"):
    """Ask and wait; return the answer's event and data."""
    event = call(page, paths, sex)
    lines = httpx.get(f"{page.url}/gradio_api/call/read/{event}", timeout=600).text.splitlines()
    return lines[-3].removeprefix("event: "), json.loads(lines[-2].removeprefix("data: "))
