"""How long an answer of a decoder process may take."""

import os
import time
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0
"""A decoder that could compute may take this many times longer by the clock, if others use the cores."""

BUSY = "RD"
"""States of a process that has a core, waits for one, or waits for the disk. Others are stopped or wait for something."""


class Deadline:
    """The end of the time for one answer. On a busy machine the time that the process has computed counts.

    Args:
        process: its number.
        seconds: of computing; by the clock, where the system does not tell how long a process has computed.

    Example:
        >>> deadline = Deadline(os.getpid(), seconds=10.0)
        >>> 9.0 < deadline.left() <= 10.0
        True
    """

    def __init__(self, process: int, seconds: float) -> None:
        self.process, self.seconds = process, seconds
        self.begun, self.used = time.monotonic(), _used(process)

    def left(self) -> float:
        """The seconds after which to ask again; 0 if the time is over."""
        waited = time.monotonic() - self.begun
        if waited < self.seconds:
            return self.seconds - waited
        now = _used(self.process)
        if now is None or self.used is None or now.state not in BUSY:
            return 0.0
        computed = now.computed - self.used.computed
        return max(0.0, min(self.seconds - computed, PATIENCE * self.seconds - waited))


class _Used(NamedTuple):
    """Seconds that a process has computed, all its threads together, and its state, a letter."""

    computed: float
    state: str


def _used(process: int) -> _Used | None:
    """Read what a process has used; None where the system does not tell (Linux does)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Used((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0])
