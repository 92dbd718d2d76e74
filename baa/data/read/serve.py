"""The decoder process: read files from standard input, write radiographs to standard output."""

import contextlib
import io
import json
import logging
import math
import os
import select
import signal
import sys
import warnings
from typing import Any, BinaryIO

from baa.data.read.decode import decode
from baa.errors import InputError

ORPHAN_SECONDS = 10.0
SLACK = 2.0
HEADER_BYTES = 8


def serve(memory_bytes: int, seconds: float) -> None:
    """Decode one file after the other, until standard input ends or the parent process has gone.

    Args:
        memory_bytes: limit of the address space.
        seconds: of computing for one file. The parent ends a process that takes longer; if the parent has died meanwhile, the
            system does, a little later.
    """
    _limit(memory_bytes)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the parent, which ends this process
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)  # decoders print what headers contain
    os.dup2(silent, sys.stdout.fileno())
    os.dup2(silent, sys.stderr.fileno())
    requests, parent = os.fdopen(os.dup(sys.stdin.fileno()), "rb"), os.getppid()  # its buffer is empty after each request
    _answer(answers, {})
    while True:
        while not select.select([requests], [], [], ORPHAN_SECONDS)[0]:
            if os.getppid() != parent:
                return
        request = requests.readline()
        if not request.endswith(b"\n"):
            return
        asked = json.loads(request)
        file = io.BytesIO(requests.read(asked["bytes"]))  # nothing else holds its bytes
        if len(file.getvalue()) < asked["bytes"]:
            return
        allow(SLACK * seconds)
        _answer(answers, *_decoded(file, asked["px"]))
        file.close()


def _limit(memory_bytes: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not every system has it, or lets it be set
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow(seconds: float) -> None:
    """Let the system end this process once it has computed this long from now."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        most = math.ceil(used.ru_utime + used.ru_stime + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _decoded(file: io.BytesIO, px: int) -> tuple[dict[str, Any], bytes]:
    try:
        radiograph = decode(file, px)
    except InputError as error:
        return {"error": str(error)}, b""
    except MemoryError:
        return {"error": "could not be decoded: it needs more memory than a radiograph does"}, b""
    except Exception as error:  # its text may quote a header
        return {"error": f"could not be decoded: an unexpected {type(error).__name__}"}, b""
    pixels = radiograph.pixels.tobytes()
    return {
        "pixels": len(pixels),
        "width": radiograph.width,
        "height": radiograph.height,
        "frame": radiograph.frame,
        "inverted": radiograph.inverted,
        "patient": [int(radiograph.patient.sex), radiograph.patient.months],
        "notes": radiograph.notes,
    }, pixels


def _answer(answers: BinaryIO, answer: dict[str, Any], pixels: bytes = b"") -> None:
    text = json.dumps(answer).encode()
    answers.write(b"%08d" % len(text) + text + pixels)
    answers.flush()
