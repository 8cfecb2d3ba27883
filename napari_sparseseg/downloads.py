"""Weights from the network: over https, of a size and hash known beforehand, on command only.

Nothing in the package calls this but ``sparseseg download``. What has arrived stays in a ``.part``
file, from which the next attempt goes on; the model file appears when its hash is right.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from napari_sparseseg.errors import ModelError, OutputError
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.weights import ModelInfo, checksum, user_folder

_CHUNK = 2**16  # bytes read at once
_SLOWEST = 1000.0  # bytes a second; less for as long as one is patient is no download


def download(
    info: ModelInfo,
    progress: Progress = silent,
    cancel: CancelToken | None = None,
    *,
    context: ssl.SSLContext | None = None,
    patience: float = 30.0,
) -> Path:
    """Fetch the weights of a registered model, going on from what an earlier attempt left.

    Parameters
    ----------
    info : ModelInfo
        A model of the registry.
    progress : callable
        Is told bytes done, bytes in total and a text.
    cancel : CancelToken, optional
        Stops it; what has arrived stays.
    context : ssl.SSLContext, optional
        Whom to trust; the authorities that the system trusts if left out.
    patience : float
        Seconds to wait for an answer, and to bear with a server that hardly sends anything.

    Returns
    -------
    Path
        The file, whose hash is that of the registry.

    Raises
    ------
    ModelError
        If the model has no address, the server cannot be reached or sends something else.
    OutputError
        If the file cannot be written.
    Cancelled
        If the token was set.
    """
    if info.path.exists() and checksum(info.path) == info.sha256:
        return info.path
    if not info.url:
        raise ModelError(f"{info.name} comes with the package; reinstall napari-sparseseg.")
    target = user_folder() / info.path.name
    part = target.with_name(f"{target.name}.{info.sha256[:12]}.part")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        start = part.stat().st_size if part.exists() else 0
        if start > info.size_bytes:
            part.unlink()
            start = 0
        if shutil.disk_usage(target.parent).free < info.size_bytes - start:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if start < info.size_bytes:
        opener = _opener(context or ssl.create_default_context())
        _receive(info, part, start, opener, patience, progress, cancel or CancelToken())
    if checksum(part) != info.sha256:
        part.unlink()
        raise ModelError(
            f"What {_host(info)} sent for {info.name} is not the registered file and was removed; "
            "try again later or tell the authors."
        )
    with _writing(target):
        os.replace(part, target)
    return target


def _receive(
    info: ModelInfo,
    part: Path,
    start: int,
    opener: urllib.request.OpenerDirector,
    patience: float,
    progress: Progress,
    cancel: CancelToken,
) -> None:
    """Bring a part to its full size."""
    cancel.raise_if_cancelled()
    with _reaching(info), _answer(info, start, opener, patience) as (answer, start):
        with _writing(part):
            file = part.open("r+b" if start else "wb")
        with file:
            file.seek(start)
            done = start
            for chunk in _chunks(answer, patience):
                if done + len(chunk) > info.size_bytes:
                    raise _Strange("it sends more than the registered size")
                with _writing(part):
                    file.write(chunk)
                done += len(chunk)
                progress(done, info.size_bytes, f"Downloading {info.name}")
                cancel.raise_if_cancelled()
            with _writing(part):
                file.flush()
                os.fsync(file.fileno())
        if done < info.size_bytes:
            raise http.client.IncompleteRead(b"")


@contextmanager
def _answer(
    info: ModelInfo, start: int, opener: urllib.request.OpenerDirector, patience: float
) -> Iterator[tuple[Any, int]]:
    """Ask for the bytes from `start` on; gives the answer and where it really starts."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "napari-sparseseg"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(info.url, headers=headers)
    with opener.open(request, timeout=patience) as answer:
        if answer.status == http.client.PARTIAL_CONTENT:
            whole = f"bytes {start}-{info.size_bytes - 1}/{info.size_bytes}"
            if not start or answer.headers.get("Content-Range") != whole:
                raise _Strange("it sends another part than was asked for")
        else:  # a server that knows no ranges sends all of it
            start = 0
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(info.size_bytes - start):
            raise _Strange("its file has another size than the registered one")
        yield answer, start


def _chunks(answer: Any, patience: float) -> Iterator[bytes]:
    """Give what arrives until it ends; raises ``TimeoutError`` when that is next to nothing."""
    since, received = time.monotonic(), 0
    while chunk := answer.read1(_CHUNK):
        yield chunk
        received += len(chunk)
        if (now := time.monotonic()) - since > patience:
            if received < _SLOWEST * (now - since):
                raise TimeoutError
            since, received = now, 0


class _Strange(Exception):
    """A server that answers, but not with the registered file."""


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follow a server to another address, but never out of https."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise _Strange("it leads to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """Return an opener that knows https alone: no files, no ftp, no http."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=context),
        _HttpsOnly(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _reaching(info: ModelInfo) -> Iterator[None]:
    """Turn what goes wrong on the way into a sentence that says how to get the file."""
    by_hand = (
        f"run 'sparseseg download {info.name}' again to go on, or put the file from {info.url} "
        f"into {user_folder()}"
    )
    try:
        yield
    except _Strange as error:
        raise ModelError(f"{_host(info)} cannot be used: {error}; {by_hand}.") from error
    except urllib.error.HTTPError as error:
        error.close()
        raise ModelError(
            f"{_host(info)} does not have the file (status {error.code}); {by_hand}."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = _reason(error)
        raise ModelError(f"{info.name} cannot be downloaded: {reason}; {by_hand}.") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the certificate of the server is not trusted"
    if isinstance(error, socket.gaierror):
        return "this computer is offline or does not know the server"
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    if isinstance(error, http.client.HTTPException):
        return "the connection broke off"
    return f"the server cannot be reached ({getattr(error, 'strerror', None) or 'no connection'})"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cure = "free some space" if full else "choose another folder with SPARSESEG_WEIGHTS"
        with suppress(OSError):
            if path.suffix == ".part" and not path.stat().st_size:
                path.unlink()
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); {cure} and try again."
        ) from error


def _host(info: ModelInfo) -> str:
    return urlsplit(info.url).hostname or info.url
