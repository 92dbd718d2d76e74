"""What the commands share: how they are parsed, what they keep quiet about, how they end."""

import argparse
import errno
import sys
import warnings
from collections.abc import Callable

from baa.atomic_io import FULL
from baa.errors import InputError
from baa.metrics.coverage import COVERAGE
from baa.model_card import SHIPPED

NO_ROOM = (*FULL, errno.EROFS)
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR)


def command_parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser of `python -m baa.NAME`, whose help ends in an epilog as it is written."""
    shown = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"python -m baa.{name}", description=description, epilog=epilog, formatter_class=shown)


def checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """Of a command that answers with a model: `--checkpoint`."""
    parser.add_argument(
        "--checkpoint",
        default=SHIPPED,
        metavar="F",
        help="runs/NAME/STAGE/best.ckpt, or a bundle (default: pretrained, the one that comes with baa)",
    )


def coverage_option(parser: argparse.ArgumentParser) -> None:
    """Of a command that answers with intervals: `--coverage`."""
    what = "share of intervals that hold the truth (default: %(default)s)"
    parser.add_argument("--coverage", type=share, default=COVERAGE, metavar="C", help=what)


def settings_argument(parser: argparse.ArgumentParser, over: str) -> None:
    """Of a command that takes settings: `key=value ...`, which go over others. `parse_with_settings` then parses."""
    parser.add_argument("settings", nargs="*", metavar="key=value", help=f"settings that go over {over}")


def parse_with_settings(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, and among the settings those that were written as options, as a W&B agent does."""
    arguments, more = parser.parse_known_args()
    arguments.settings += more
    return arguments


def share(text: str) -> float:
    """A number between 0 and 1, both out of reach.

    Raises:
        ArgumentTypeError: another number, or none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def at_least(fewest: int) -> Callable[[str], int]:
    """A type of argument: a whole number, no smaller."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < fewest:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {fewest} on")
        return int(text)

    return number


def keep_libraries_quiet() -> None:
    """No warning that only whoever writes the code could heed."""
    warnings.filterwarnings("ignore", module=r"optuna|lightning|captum|kornia|torch")


def run_command(main: Callable[[], None]) -> None:
    """Run a command and leave the process: 0 when done, 2 for an `InputError`, a full disk or a file that is not the user's,
    130 when interrupted.
    """
    try:
        main()
    except InputError as error:
        sys.exit(_refusal(str(error)))
    except OSError as error:
        if error.errno not in (*NO_ROOM, *NOT_OURS):
            raise
        lacking = "written" if error.errno in NO_ROOM else "used"
        sys.exit(_refusal(f"{error.filename or 'a file'} cannot be {lacking}: {error.strerror}"))
    except KeyboardInterrupt:
        sys.stderr.write("baa: interrupted\n")
        sys.exit(130)


def _refusal(message: str) -> int:
    sys.stderr.write(f"baa: {message}\n")
    return 2
