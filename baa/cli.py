"""Shared by the commands: options, settings on the command line, warnings, exit codes."""

import argparse
import errno
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from baa.atomic_io import DISK_FULL
from baa.config.help import describe, list_settings
from baa.data.workers import kill_workers, loader_fault
from baa.errors import InputError
from baa.metrics.coverage import COVERAGE
from baa.model_card import CARD, SHIPPED
from baa.names import printable
from baa.runtime.stray import refuse_stray_ranks

NO_ROOM = (*DISK_FULL, errno.EROFS)
NO_FILES = (errno.EMFILE, errno.ENFILE)
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR)


def command_parser(name: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of `python -m baa.NAME`. The epilog is printed as it is written."""
    return argparse.ArgumentParser(
        f"python -m baa.{name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",  # `help_option` replaces --help
    )


def help_option(parser: argparse.ArgumentParser) -> None:
    """Add `--help [KEY]`: the help of the command with all settings, or what one setting or group of settings means."""

    class Help(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, _: Any, key: Any, option: str | None = None) -> None:
            sys.stdout.write((describe(key) if key else f"{parser.format_help()}\n{list_settings()}") + "\n")
            parser.exit()

    what = "print this help with all settings, or explain a setting or a group, such as locator.fit.lr or crops"
    parser.add_argument("-h", "--help", action=Help, nargs="?", metavar="KEY", help=what)


def checkpoint_option(parser: argparse.ArgumentParser, what: str = "runs/NAME/STAGE/best.ckpt, or a bundle") -> None:
    """Add `--checkpoint`, for commands that load a model."""
    parser.add_argument(
        "--checkpoint",
        default=SHIPPED,
        metavar="F",
        help=f"{what} (default: pretrained, the model that comes with baa)",
    )


def models_option(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoint F ...` and `--weights`, for commands that take an ensemble. Parse with `take_models`."""
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        default=[SHIPPED],
        metavar="F",
        help="runs/NAME/STAGE/best.ckpt or a bundle (default: pretrained); several are an ensemble, with the first one's boxes",
    )
    what = "weights of an ensemble's ages, such as 2,1,1"
    parser.add_argument("--weights", type=numbers, metavar="W,W,...", help=what)


def take_models(arguments: argparse.Namespace, others: str) -> None:
    """Keep the models in `arguments.checkpoint`; what follows them there belongs to the positional arguments.

    `--checkpoint` takes all words up to the next option: in `--checkpoint best.ckpt hand.png` the file too.

    Args:
        arguments: as parsed.
        others: name of the positional arguments.
    """
    first, *more = arguments.checkpoint
    count = next((i for i, word in enumerate(more) if not _is_model(word)), len(more))
    arguments.checkpoint, rest = [first, *more[:count]], more[count:]
    setattr(arguments, others, [*rest, *map(str, getattr(arguments, others))])


def _is_model(word: str) -> bool:
    return word == SHIPPED or word.endswith(".ckpt") or (Path(word) / CARD).is_file()


def numbers(text: str) -> list[float]:
    """Parse numbers that are separated by commas.

    Raises:
        ArgumentTypeError: not such numbers.
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers, such as 2,1,1") from None


def split_option(parser: argparse.ArgumentParser) -> None:
    """Add `--split`, for commands that test a model."""
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "unseen"),
        default="test",
        help="which cases; unseen: all that the model was neither trained nor chosen on (default: test; all cases of a source "
        "without a split of its own, if the model has seen none of them)",
    )


def coverage_option(parser: argparse.ArgumentParser) -> None:
    """Add `--coverage`, for commands that compute prediction intervals."""
    what = "share of prediction intervals that contain the true age (default: %(default)s)"
    parser.add_argument("--coverage", type=share, default=COVERAGE, metavar="C", help=what)


def settings_argument(parser: argparse.ArgumentParser, over: str) -> None:
    """Add `key=value ...`, for commands that take settings. Parse with `parse_with_settings`."""
    parser.add_argument("settings", nargs="*", metavar="key=value", help=f"settings that override {over}")


def parse_with_settings(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line. Settings may have leading dashes, as a W&B agent writes them."""
    arguments, more = parser.parse_known_args()
    arguments.settings += more
    return arguments


def share(text: str) -> float:
    """Parse a number between 0 and 1, both excluded.

    Raises:
        ArgumentTypeError: not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return number


def at_least(fewest: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `fewest` on."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < fewest:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number from {fewest} on")
        return int(text)

    return number


def keep_libraries_quiet() -> None:
    """Hide warnings of libraries that are for developers."""
    warnings.filterwarnings("ignore", module=r"optuna|lightning|captum|kornia|torch")


def run_command(main: Callable[[], None]) -> None:
    """Run a command. Exit with 2 for an `InputError`, a full disk or a file without permission, with 130 when interrupted."""
    try:
        refuse_stray_ranks()  # before Lightning is imported, which reads them
        main()
    except InputError as error:
        sys.exit(_refusal(str(error)))
    except (RuntimeError, OSError, EOFError) as error:
        kill_workers()  # before anything waits for them, or the death of another one raises here
        if (fault := loader_fault(error) or _file_fault(error)) is None:
            raise
        sys.unraisablehook = lambda _: None  # torch's, of a loader that was not complete
        sys.exit(_refusal(fault))
    except KeyboardInterrupt:
        sys.stderr.write("baa: interrupted\n")
        sys.exit(130)


def _file_fault(error: Exception) -> str | None:
    """Return one line about files that cannot be opened or written; None for another error."""
    if not isinstance(error, OSError) or error.errno not in (*NO_FILES, *NO_ROOM, *NOT_OURS):
        return None
    if error.errno in NO_FILES:
        return f"open files: {error.strerror}; raise the limit (ulimit -n), or use fewer processes (--workers, data.workers)"
    lacking = "written" if error.errno in NO_ROOM else "used"
    return f"{error.filename or 'a file'} cannot be {lacking}: {error.strerror}"


def _refusal(message: str) -> int:
    lines = (printable(line) for line in message.split("\n"))  # names of files may hold terminal escapes
    sys.stderr.write("baa: " + "\n".join(lines) + "\n")
    return 2
