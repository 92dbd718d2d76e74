"""Serve a web page that estimates bone ages: `python -m baa.app [--checkpoint F] [--port N]`."""

import os
import signal
import sys
from importlib.util import find_spec

from baa.cli import checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.errors import InputError

EPILOG = """\
what it serves
  A page for uploading radiographs. It shows bone ages, prediction intervals, bounding boxes, heat maps and warnings. The
  table and the pictures can be downloaded. Programs use the endpoint /read:

    from gradio_client import Client, handle_file
    films, table, csv, pictures = Client("http://127.0.0.1:7860").predict(
        [handle_file("hand.png")], "female", False, api_name="/read")

access
  Localhost only, unless --host is given. The page has no password and no encryption. It refuses requests from other web
  sites. Behind a proxy, give the address that users open with --allow-origin.

requires
  pip install -e '.[app]', in the folder of baa (`make venv` includes it)

examples
  python -m baa.app
  python -m baa.app --port 7861 --checkpoint runs/rsna/estimator/bundle
  python -m baa.app --allow-origin https://bone-age.example
"""
PORT = 7860
BATCH = 4


def main() -> None:
    """Parse the command line, load the model, and serve until interrupted."""
    parser = command_parser("app", "Serve a web page that estimates bone ages. A research tool, not a medical device.", EPILOG)
    checkpoint_option(parser)
    coverage_option(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: localhost)")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"port to listen on (default: {PORT})")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="O",
        help="origin of a web site that may use the page; repeatable",
    )
    arguments = parser.parse_args()

    keep_libraries_quiet()
    if not find_spec("gradio"):
        raise InputError("app: gradio is not installed; pip install -e '.[app]'")
    from baa.web.access import check_address, check_origin
    from baa.web.folder import page_folder

    host, port = arguments.host.strip("[]"), arguments.port
    origins = [check_origin(origin) for origin in arguments.allow_origin]
    check_address(host, port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder is deleted
    with page_folder() as folder:
        os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}  # gradio reads them on import
        from baa.api import load_model
        from baa.web.page import build
        from baa.web.serving import start, wait

        model = load_model(arguments.checkpoint, batch_size=BATCH, coverage=arguments.coverage)
        page = build(model, folder)
        start(page, host, port, origins=origins, folder=folder)
        wait(page, host, port)


if __name__ == "__main__":
    run_command(main)
