"""How long an answer of a decoder process may take."""

import os
import time
from pathlib import Path

PATIENCE = 6.0
"""A decoder that computes may take this many times longer by the clock, if others use the cores too."""

IDLE_SHARE = 0.01
"""A process that gets less than this share of a core is stopped or waits for something, whatever the load."""


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
        self.begun, self.computed = time.monotonic(), _computed(process)

    def left(self) -> float:
        """The seconds after which to ask again; 0 if the time is over."""
        waited = time.monotonic() - self.begun
        if waited < self.seconds:
            return self.seconds - waited
        now = _computed(self.process)
        if now is None or self.computed is None:
            return 0.0
        computed, longest = now - self.computed, PATIENCE * self.seconds
        if computed < IDLE_SHARE * waited:
            return 0.0
        return max(0.0, min(self.seconds - computed, longest - waited))


def _computed(process: int) -> float | None:
    """Seconds that a process has computed, all its threads together; None where the system does not tell (Linux does)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
