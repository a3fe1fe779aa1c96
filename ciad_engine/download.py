"""Fetch the official CIFAR-10 archive: progress, resume, checksum."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ciad_engine import folders
from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

MAX_BYTES = 2**30  # stop a server that never stops; the archive has 0.17 GB
ATTEMPTS = 4  # in a row without a new byte
_CHUNK = 2**18
_BY_HAND = "Check the connection and start again, or download {url} yourself and choose the file as the data set."


@dataclasses.dataclass(frozen=True)
class Source:
    """A file on the web: its URL, the name of the local file, and its MD5 in hexadecimal."""

    url: str
    filename: str
    md5: str


# As published at https://www.cs.toronto.edu/~kriz/cifar.html. torchvision has the same (`tests/oracles` compares them),
# but importing it takes seconds, and fails if it was built for another torch, as beside a CPU build.
CIFAR10 = Source(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
)


class _Interrupted(Exception):  # noqa: N818 - worth another attempt, not yet an error
    """The connection ended early; the text describes how."""


def default_folder() -> Path:
    """Return the user's own folder for fetched data. It may not exist yet.

    Raises:
        CiadError: nobody knows the user's home.
    """
    return folders.of_user("data", "name a folder for the data with --to") / "data"


def fetch(
    folder: Path, job: Job | None = None, source: Source | None = None, timeout: float = 10, pause: float = 1
) -> Path:
    """Download a file into a folder and check it; a good one that is there already is left alone.

    What has arrived is kept as `<name>.part` when the work is cancelled or fails, and the next
    call continues from there.

    Args:
        job: progress in bytes. Cancelling takes effect at the next piece that arrives.
        source: what to fetch; by default CIFAR-10.
        timeout: seconds without a byte after which a connection counts as dead.
        pause: seconds before the second attempt; doubled for each further one.

    Returns:
        The path of the complete file.

    Raises:
        DataError: no connection, an error of the server, another file than promised, no space ...
        Cancelled: through `job`.
    """
    job = job or Job()
    source = source or CIFAR10
    target = folder / source.filename
    part = folder / (source.filename + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            if _md5(target) == source.md5:
                job.note(f"{target} is there already and complete.")
                return target
            job.note(f"{target} is damaged (its MD5 differs): fetching it again.")
        resumed = _size(part) > 0
        _download(source, part, job, timeout, pause)
        found = _md5(part)
        if resumed and found != source.md5:
            job.note("The part kept from an earlier attempt does not fit: starting again.")
            part.unlink()
            _download(source, part, job, timeout, pause)
            found = _md5(part)
        if found != source.md5:
            content = _describe(part)
            part.unlink()
            raise DataError(
                f"{source.url} sent {content}, not the file promised (MD5 {found}, expected {source.md5}); it was "
                "removed. A proxy or a log-in page of the network may have answered instead. "
                + _BY_HAND.format(url=source.url)
            )
        part.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"There is no space left in {folder}: CIFAR-10 needs 170 MB. Make room, or choose another folder."
            ) from error
        raise DataError(f"{folder} cannot be used: {error.strerror or error}. Choose another folder.") from error
    return target


def _download(source: Source, part: Path, job: Job, timeout: float, pause: float) -> None:
    """Get the whole file into `part`, over as many connections as it takes."""
    best, failures = _size(part), 0
    while True:
        try:
            _connect(source, part, job, timeout)
            return
        except _Interrupted as interruption:
            size = _size(part)
            failures = 1 if size > best else failures + 1
            best = max(best, size)
            if failures >= ATTEMPTS:
                raise DataError(
                    f"Fetching {source.filename} failed {failures} times in a row: {interruption}. "
                    f"{best:,} bytes are kept. {_BY_HAND.format(url=source.url)}"
                ) from interruption
            job.note(f"{interruption} after {size:,} bytes: trying again.")
        waits = time.monotonic() + pause * 2 ** (failures - 1)
        while time.monotonic() < waits:
            job.checkpoint()
            time.sleep(min(0.1, pause))


def _connect(source: Source, part: Path, job: Job, timeout: float) -> None:
    """Continue at the end of `part`, if the server can, over one connection.

    Raises:
        _Interrupted: it ended before the whole file was there.
    """
    have = _size(part)
    request = urllib.request.Request(source.url, headers={"User-Agent": "ciad", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    job.checkpoint()
    with _network_errors(source):
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                error.close()
                return  # nothing comes after what is here; `fetch` sees by its checksum if it is the whole file
            raise
    with response:
        start = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise DataError(f"{source.url} answered with another part of the file than was asked for.")
        length = response.headers.get("Content-Length", "")
        whole = start + int(length) if length.isdigit() else None
        with part.open("ab" if start else "wb") as file:
            end = _receive(source, response, file, start, whole, job)
    if whole is not None and end < whole:
        raise _Interrupted("The connection was cut")
    if end == 0:
        raise _Interrupted("The server sent nothing")


def _receive(
    source: Source, response: http.client.HTTPResponse, file: IO[bytes], have: int, whole: int | None, job: Job
) -> int:
    """Write what arrives to `file`, which has `have` of `whole` bytes (None: unknown); return how many it has then."""
    while True:
        total = have if whole is None else whole
        if total > MAX_BYTES:
            raise DataError(f"{source.url} has {total:,} bytes or more, far more than CIFAR-10.")
        job.progress(have, total, f"Fetching {source.filename}")
        with _network_errors(source):
            # `read1` returns what is there: a slow server can be cancelled, and loses nothing when it stops.
            piece = response.read1(_CHUNK)
        if not piece:
            return have
        file.write(piece)
        have += len(piece)


@contextlib.contextmanager
def _network_errors(source: Source) -> Iterator[None]:
    """Raise _Interrupted if another attempt may succeed, else DataError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"server answered {error.code} {error.reason}"
        if error.code >= 500 or error.code in (408, 429):
            raise _Interrupted(f"The {answer}") from error
        raise DataError(f"{source.url}: the {answer}. {_BY_HAND.format(url=source.url)}") from error
    except (http.client.HTTPException, OSError) as error:
        # urllib wraps what happens while it connects; after that errors come as they are.
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise _Interrupted("The server did not answer in time") from error
        cut = isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError)
        if cut or cause is error:
            raise _Interrupted(f"The connection was cut ({str(cause) or type(cause).__name__})") from error
        reason = getattr(cause, "strerror", None) or cause
        if isinstance(cause, socket.gaierror):
            reason = f"its address could not be found ({reason}); there may be no network"
        raise DataError(f"{source.url} cannot be reached: {reason}. {_BY_HAND.format(url=source.url)}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _describe(path: Path) -> str:
    """Describe what arrived instead, for the message."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    kind = "a web page" if start.startswith((b"<!doctype", b"<html")) else "something"
    return f"{kind} of {_size(path):,} bytes"
