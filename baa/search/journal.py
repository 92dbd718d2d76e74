"""The journal of a sweep after a crash or on a full disk: JSON lines, of which the last one may be cut short."""

import json
import sys
from pathlib import Path

from baa.atomic_io import write_atomic
from baa.errors import InputError


def repair_journal(journal: Path) -> None:
    """Cut a journal after its last whole record. Optuna would append to the rest and never read the file again.

    Raises:
        InputError: an earlier record is damaged, or the file is empty although trials have been started.
    """
    if not journal.exists():
        return
    lines = journal.read_bytes().splitlines(keepends=True)
    remedy = "restore it, or choose another --out"
    if not lines and any(journal.parent.glob("trial-*.log")):
        raise InputError(f"{journal}: empty, but trials have been started; {remedy}")
    damaged = [number for number, line in enumerate(lines, 1) if not _is_whole(line)]
    if damaged and damaged[0] < len(lines):
        raise InputError(f"{journal}: line {damaged[0]} of {len(lines)} is damaged; {remedy}")
    if damaged:
        sys.stderr.write(f"{journal}: the last record was cut short and is ignored\n")
        write_atomic(journal, b"".join(lines[:-1]))


def _is_whole(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
