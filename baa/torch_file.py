"""Files of `torch.save`, read without running code of their maker and without inflating."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

from baa.errors import InputError

INDEX = "data.pkl"
MAX_INDEX_BYTES = 16 * 2**20
"""Most bytes of the part that is no tensor. Unpickled, it may take some fifty times as much memory."""

GLOBAL = re.compile(r"GLOBAL ([\w.]{1,60})")


def read_torch_file(file: Path, setting: str) -> Any:
    """Read tensors and plain values from a file of `torch.save`.

    Args:
        file: to read.
        setting: the setting or option that named it, for errors.

    Raises:
        InputError: no such file, a file that holds code, would inflate, or cannot be read.
    """
    import torch  # checks of a config use this module's neighbors without torch

    if not file.is_file():
        raise InputError(f"{setting}: {file} does not exist or is no regular file; give a file that torch.save wrote")
    _refuse_inflating(file, setting)
    try:
        return torch.load(file, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "GLOBAL" in text or "Unsupported" in text:
            named = GLOBAL.search(text)
            what = f"code ({named[1]})" if named else "code"
            raise InputError(
                f"{setting}: {file} holds {what}, which loading would run; it is not loaded, ask its author for a bundle"
            ) from None
        raise InputError(f"{setting}: {file} cannot be read, it may be cut short; copy it again") from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{setting}: {file} cannot be read, it may be cut short: {reason}") from error


def _refuse_inflating(file: Path, setting: str) -> None:
    """Read the directory of the archive: torch stores its parts as they are, so they cannot be larger than the file."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"{setting}: {file} cannot be read, it may be cut short ({error}); copy it again") from error
    size, unpacked = file.stat().st_size, sum(part.file_size for part in parts)
    if unpacked > size or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise InputError(
            f"{setting}: {file} has {size / 2**20:,.1f} MiB, but unpacks to {unpacked / 2**20:,.1f} MiB; torch.save packs "
            "nothing, so it is not loaded; ask its author for a bundle"
        )
    if any(part.file_size > MAX_INDEX_BYTES for part in parts if part.filename.endswith(INDEX)):
        raise InputError(
            f"{setting}: {file} holds more than {MAX_INDEX_BYTES // 2**20} MiB besides tensors; ask its author for a bundle"
        )
