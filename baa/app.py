"""Serve a web page that estimates bone ages: `python -m baa.app [--checkpoint F] [--port N]`."""

import os
import tempfile
from pathlib import Path

from baa.cli import checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.errors import InputError

EPILOG = """\
what it serves
  A page for uploading radiographs. It shows bone ages, prediction intervals, boxes, heat maps and warnings, and offers the
  table and the pictures as downloads. Programs use the endpoint /read:

    from gradio_client import Client, handle_file
    films, table, csv, pictures = Client("http://127.0.0.1:7860").predict(
        [handle_file("hand.png")], "female", False, api_name="/read")

access
  Localhost only, unless --host is given. The page has no password and no encryption.

requires
  pip install -e '.[app]', in the folder of baa (`make venv` includes it)
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
    arguments = parser.parse_args()

    keep_libraries_quiet()
    with tempfile.TemporaryDirectory(prefix="baa_page_") as folder:  # uploads and results
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}  # gradio reads both when it is imported
        try:
            from baa.web.page import build, serve
        except ImportError as error:
            raise InputError(f"app: {error.name} is not installed; pip install -e '.[app]'") from error
        from baa.api import load_model

        model = load_model(arguments.checkpoint, batch_size=BATCH, coverage=arguments.coverage)
        serve(build(model, Path(folder)), arguments.host, arguments.port)


if __name__ == "__main__":
    run_command(main)
