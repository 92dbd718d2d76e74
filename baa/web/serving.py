"""The server of the page."""

import sys
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from baa.data.read.file import MAX_BYTES
from baa.errors import InputError
from baa.web.access import Access, is_local, machine_names
from baa.web.folder import start_sweeping
from baa.web.page import STYLE


def start(page: gr.Blocks, host: str, port: int, *, origins: Sequence[str] = (), folder: Path) -> None:
    """Start to serve, in threads. Only uploaded files and downloads can be reached.

    Args:
        page: of `baa.web.page.build`.
        host, port: to listen on.
        origins: of web sites that may use the page too, such as a proxy.
        folder: of uploads and downloads.

    Raises:
        InputError: the port is taken.
    """
    access = Middleware(Access, hosts=machine_names(host), origins=origins, folder=folder)
    try:
        page.launch(
            server_name=_in_url(host),
            server_port=port,
            share=False,
            quiet=True,
            show_error=False,  # messages of `gr.Error` are shown nevertheless
            max_file_size=MAX_BYTES,
            ssr_mode=False,
            run_history=False,  # it keeps radiographs in the browser, and lends the operator's Hugging Face token
            mcp_server=False,
            footer_links=["api"],
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # others are downloaded
            css=STYLE,
            prevent_thread_lock=True,
            app_kwargs={"middleware": [access]},
        )
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: the port is in use; choose another with --port") from error
    start_sweeping(folder)


def wait(page: gr.Blocks, host: str, port: int) -> None:
    """Print the page's address and who can reach it, and wait until interrupted."""
    sys.stdout.write(f"http://{_in_url(host)}:{port} (stop with Ctrl-C)\n")
    if not is_local(host):
        sys.stdout.write(f"{reach(host, port)}\n")
    sys.stdout.flush()
    page.block_thread()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def reach(host: str, port: int) -> str:
    """Say who can use a page that listens on an address that other machines reach."""
    names = ", ".join(f"http://{name}:{port}" for name in sorted(machine_names(host) - {"localhost", host}))
    return (
        f"--host {host}: the page is open to the network ({names}), without password and encryption; leave out --host to "
        "serve localhost only"
    )
