"""A page on this machine that reads radiographs: `python -m baa.app [--checkpoint F] [--port N]`."""

import os
import tempfile
from pathlib import Path

from baa.cli import checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.errors import InputError
from baa.model_card import model_path

EPILOG = """\
what it serves
  A page where radiographs are dropped: ages, intervals, boxes, a heat map that fades, warnings; a table and pictures to
  download. Programs ask the same of its endpoint /read:

    from gradio_client import Client, handle_file
    films, table, csv, pictures = Client("http://127.0.0.1:7860").predict(
        [handle_file("hand.png")], "female", False, api_name="/read")

who can reach it
  This machine alone, unless --host says otherwise; whoever reaches it can use it: there is no password, and no encryption.

needs
  pip install -e '.[app]', in the folder of baa (`make venv` has done it)
"""
PORT = 7860


def main() -> None:
    """Parse, load the model, serve until interrupted."""
    parser = command_parser("app", "Read radiographs on a page in the browser. A research tool, not a medical device.", EPILOG)
    checkpoint_option(parser)
    coverage_option(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}")
    arguments = parser.parse_args()

    keep_libraries_quiet()
    with tempfile.TemporaryDirectory(prefix="baa_page_") as folder:  # all that is dropped and made lies in it, and goes with it
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}  # which are read as it is imported
        try:
            from baa.web.page import build, serve
        except ImportError as error:
            raise InputError(f"the page needs {error.name}: pip install -e '.[app]'") from error
        from baa.web.reader import Reader

        reader = Reader(model_path(arguments.checkpoint), arguments.coverage)
        serve(build(reader, Path(folder)), arguments.host, arguments.port)


if __name__ == "__main__":
    run_command(main)
