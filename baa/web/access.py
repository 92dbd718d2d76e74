"""Who may use the page: requests of other web sites are refused, and so are uploads that would fill the disk."""

import errno
import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import PlainTextResponse

from baa.errors import InputError
from baa.web.folder import stored_bytes

UNREAD_BYTES = 4 << 30
"""The most that the page's files may need together; a request of 200 films of 20 MB fits."""

CHECKED_BYTES = 8 << 20
"""An upload is compared with the room that is left whenever this much has arrived."""

UPLOAD = "/upload"
LOCAL = "localhost"


class Access:
    """ASGI middleware that refuses requests of pages from elsewhere, and uploads for which there is no room.

    A browser sends `Origin` with each request that another web site makes it send, and `Host` with the name under which the
    user opened the page. A name that somebody else's DNS resolves to this machine (DNS rebinding) is not among `hosts`; an IP
    address needs no DNS. Programs send no `Origin`.

    Args:
        app: that answers what is not refused.
        hosts: names of this machine.
        origins: further origins that are accepted, such as a proxy's `https://bone-age.example`.
        folder: that uploads are stored in.
    """

    def __init__(self, app: Any, *, hosts: Iterable[str], origins: Iterable[str], folder: Path) -> None:
        self.app = app
        self.origins = frozenset(origins)
        self.hosts = frozenset(hosts) | {urlsplit(origin).hostname for origin in self.origins}
        self.folder = folder

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            if reason := self._refusal(Headers(scope=scope)):
                await PlainTextResponse(reason, status_code=403)(scope, receive, send)
                return
            if scope["path"].rstrip("/").endswith(UPLOAD):
                receive = self._bounded(receive)
        await self.app(scope, receive, send)

    def _refusal(self, headers: Headers) -> str:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if not self._is_known(host):
            return "Host: not a name of this page; open it under an address that it prints, or start it with --allow-origin\n"
        if origin is not None and origin.lower() not in {f"http://{host}", f"https://{host}", *self.origins}:
            return "Origin: a request from another web site; start this page with --allow-origin to accept its requests\n"
        return ""

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.hosts or _is_address(name)

    def _bounded(self, receive: Any) -> Any:
        """Wrap `receive`. Gradio deletes what has arrived of an upload at a `MultiPartException`, and at no other one."""
        arrived, checked = 0, -CHECKED_BYTES

        async def bounded() -> Any:
            nonlocal arrived, checked
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MultiPartException("the upload was interrupted")
            arrived += len(message.get("body", b""))
            if arrived - checked >= CHECKED_BYTES:
                checked = arrived
                if await run_in_threadpool(stored_bytes, self.folder) + CHECKED_BYTES > UNREAD_BYTES:
                    raise MultiPartException(
                        f"uploads exceed the maximum allowed size of {UNREAD_BYTES >> 20} MiB together; try again later"
                    )
            return message

        return bounded


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def machine_names(host: str) -> set[str]:
    """The names under which a page that listens on `host` is opened; IP addresses apart."""
    names = {LOCAL, host.lower()}
    return names if is_local(host) else names | {socket.gethostname().lower(), socket.getfqdn().lower()}


def is_local(host: str) -> bool:
    """Return whether only this machine reaches what listens on `host`."""
    return host.lower() == LOCAL or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def check_origin(origin: str) -> str:
    """Return an origin in the form that browsers send.

    Raises:
        InputError: it is none.
    """
    try:
        parts = urlsplit(origin.strip().rstrip("/").lower())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
        raise InputError(f"--allow-origin: {origin} is no origin; give scheme and host, such as https://bone-age.example")
    usual = port in (None, {"http": 80, "https": 443}[parts.scheme])
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if usual else f":{port}")


def check_address(host: str, port: int) -> None:
    """Listen on an address for a moment.

    Raises:
        InputError: it is no address of this machine, or the port is taken, reserved or none.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"--port: {port} is not a port; choose one from 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        why = "the port is in use" if code == errno.EADDRINUSE else getattr(error, "strerror", None) or "not a host name"
        other = "another with --port" if code in (errno.EADDRINUSE, errno.EACCES) else "another with --host"
        raise InputError(f"cannot listen on {host}:{port}: {why}; choose {other}") from error
