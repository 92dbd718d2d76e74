"""Decode radiographs in a process that may die.

Decoders in C and C++ end, fill the memory or run for minutes on some hostile or damaged files. Here that costs one file. The
process is kept alive from file to file. Its answers are JSON and pixels, never pickles.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from baa.data.read.deadline import Deadline
from baa.data.read.radiograph import Frame, Radiograph
from baa.errors import InputError
from baa.patient import Patient, Sex

MEMORY_BYTES = 2 << 30
"""Address space of a decoder process, libraries included."""

DEADLINE_SECONDS = 10.0
"""Of computing, for one file."""

START_SECONDS = 120.0
"""A machine under load needs tens of seconds to import the decoders from a network file system."""

SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
KEEP_FREED = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
"""For glibc: a film's memory serves the next one. Else the system faults in its pages anew, a tenth of the time of a film."""

HEADER_BYTES = 8


class DecoderDiedError(Exception):
    """The decoder process ended, or did not answer in time."""


def decode_apart(data: bytes, px: int) -> Radiograph:
    """Decode a file as `decode` does, in a process of its own.

    Args:
        data: the bytes of the file.
        px: side of the square.

    Raises:
        InputError: as `decode`; or the decoder ended, took longer than `DEADLINE_SECONDS` or more than `MEMORY_BYTES`.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.linear_gradient("L").save(file, "PNG")
        >>> decode_apart(file.getvalue(), 64).pixels.shape
        (64, 64)
    """
    decoder = _pool.take()
    try:
        radiograph = decoder.decode(data, px)
    except DecoderDiedError as error:
        _pool.end(decoder)
        raise InputError(f"could not be decoded: {error}") from None
    except BaseException as error:
        if not isinstance(error, InputError):
            _pool.end(decoder)  # an interrupted answer would be taken for the next file's
            raise
        _pool.give_back(decoder)
        raise
    _pool.give_back(decoder)
    return radiograph


class _Decoder:
    """A running decoder process."""

    def __init__(self) -> None:
        serve = f"from baa.data.read.serve import serve; serve({MEMORY_BYTES}, {DEADLINE_SECONDS})"
        start = f"import sys; sys.path[:] = {sys.path!r}; {serve}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | SINGLE_THREADED | KEEP_FREED,
        )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)

    def wait_until_started(self) -> None:
        """Wait for its first answer.

        Raises:
            DecoderDiedError: it does not come.
        """
        self._receive(Deadline(self.process.pid, START_SECONDS))

    def decode(self, data: bytes, px: int) -> Radiograph:
        deadline = Deadline(self.process.pid, DEADLINE_SECONDS)
        self._write(json.dumps({"px": px, "bytes": len(data)}).encode() + b"\n", deadline)
        self._write(data, deadline)
        answer, pixels = self._receive(deadline)
        if "error" in answer:
            raise InputError(answer["error"])
        sex, months = answer["patient"]
        return Radiograph(
            pixels=np.frombuffer(pixels, np.uint8).reshape(px, px),
            width=answer["width"],
            height=answer["height"],
            frame=Frame(*answer["frame"]),
            inverted=answer["inverted"],
            patient=Patient(Sex(sex), months),
            notes=tuple(answer["notes"]),
        )

    def _receive(self, deadline: Deadline) -> tuple[dict[str, Any], bytes]:
        """Read the length of a JSON text, the text, and as many bytes of pixels as it says."""
        answer = json.loads(self._read(int(self._read(HEADER_BYTES, deadline)), deadline))
        return answer, self._read(answer.get("pixels", 0), deadline)

    def _write(self, data: bytes, deadline: Deadline) -> None:
        assert self.process.stdin is not None
        left = memoryview(data)
        while left:
            _wait(deadline, [], [self.process.stdin])
            try:
                left = left[os.write(self.process.stdin.fileno(), left) :]
            except OSError:
                raise DecoderDiedError(self._ending()) from None

    def _read(self, count: int, deadline: Deadline) -> bytes:
        assert self.process.stdout is not None
        parts, left = list[bytes](), count
        while left:
            _wait(deadline, [self.process.stdout], [])
            part = os.read(self.process.stdout.fileno(), left)
            if not part:
                raise DecoderDiedError(self._ending())
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        return f"the decoder ended with code {self.process.poll()}"

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.wait()


def _wait(deadline: Deadline, readable: list[IO[bytes]], writable: list[IO[bytes]]) -> None:
    """Wait until a pipe can be read or written.

    Raises:
        DecoderDiedError: the time is over.
    """
    while not any(select.select(readable, writable, [], deadline.left())):
        if not deadline.left():
            raise DecoderDiedError(f"it takes longer than {deadline.seconds:g} seconds")


@dataclass
class _Pool:
    """The decoders of this process: one for each thread that decodes at the same time."""

    idle: list[_Decoder] = field(default_factory=list)
    busy: list[_Decoder] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> _Decoder:
        """Return an idle decoder, or start one."""
        with self.lock:
            decoder = self.idle.pop() if self.idle else None
        if decoder is not None:
            self.busy.append(decoder)
            return decoder
        decoder = _Decoder()
        self.busy.append(decoder)
        try:
            decoder.wait_until_started()
        except DecoderDiedError as error:
            self.end(decoder)
            raise InputError(f"the decoder process cannot be started: {error}") from None
        return decoder

    def give_back(self, decoder: _Decoder) -> None:
        """Keep a decoder for the next file."""
        self.busy.remove(decoder)
        with self.lock:
            self.idle.append(decoder)

    def end(self, decoder: _Decoder) -> None:
        """End a decoder that was taken."""
        self.busy.remove(decoder)
        decoder.close()

    def close(self) -> None:
        """End all decoders of this process, also those with which other threads decode."""
        for decoder in (*self.idle, *self.busy):
            decoder.close()
        self.idle.clear()

    def forget(self) -> None:
        """Leave all decoders to the parent of this forked process, which starts its own."""
        self.idle, self.busy, self.lock = [], [], threading.Lock()


_pool = _Pool()
close_decoders = _pool.close
atexit.register(close_decoders)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_pool.forget)
