"""Fetch the official CIFAR-10 archive: progress, resume, checksum."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import errno
import hashlib
import http.client
import importlib.util
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

from ciad_engine.errors import DataError
from ciad_engine.jobs import Job

MAX_BYTES = 2**30  # stop a server that never stops; the archive has 0.17 GB
ATTEMPTS = 4  # in a row without a new byte
_CHUNK = 2**18
_USER_AGENT = "ciad"
_BY_HAND = "Check the connection and start again, or fetch {url} by hand and name the file as data set."


@dataclasses.dataclass(frozen=True)
class Source:
    """A file on the web: where, under which name it is kept, and its MD5 in hexadecimal."""

    url: str
    filename: str
    md5: str


class _Interrupted(Exception):  # noqa: N818 - worth another attempt, no error yet
    """The connection ended early; its text says how."""


def official_source() -> Source:
    """The CIFAR-10 archive as torchvision lists it.

    Its source is read, not imported: the import takes seconds, and fails where torchvision's
    compiled parts do not match torch.

    Raises:
        DataError: torchvision is not installed or lists it in another way.
    """
    spec = importlib.util.find_spec("torchvision")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise DataError("torchvision, whose list names the address of CIFAR-10, is not installed.")
    path = Path(places[0]) / "datasets" / "cifar.py"
    found: dict[str, str] = {}
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == "CIFAR10":
                found = {
                    target.id: part.value.value
                    for part in node.body
                    if isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant)
                    for target in part.targets
                    if isinstance(target, ast.Name) and isinstance(part.value.value, str)
                }
    try:
        source = Source(found["url"], found["filename"], found["tgz_md5"])
    except KeyError as error:
        raise DataError(
            f"The address of CIFAR-10 was not found in {path} (no {error}): this torchvision lists it differently. "
            "Fetch cifar-10-python.tar.gz by hand and name the file as data set."
        ) from error
    return source


def default_folder() -> Path:
    """Where fetched data is kept: a folder of the user's own. It may not exist yet."""
    import platformdirs  # late: the engine also runs on machines that have only torch

    return platformdirs.user_data_path("ciad") / "data"


def fetch(
    folder: Path, job: Job | None = None, source: Source | None = None, timeout: float = 10, pause: float = 1
) -> Path:
    """Download a file into a folder and check it; a good one that is there already is left alone.

    What has arrived is kept as `<name>.part` when the work is cancelled or fails, and the next
    call goes on from there.

    Args:
        job: progress in bytes. Cancelling takes effect at the next piece that arrives.
        source: what to fetch; CIFAR-10 unless told otherwise.
        timeout: seconds without a byte after which a connection counts as dead.
        pause: seconds before the second attempt; doubled for each further one.

    Returns:
        The path of the complete file.

    Raises:
        DataError: no connection, an error of the server, another file than promised, no space ...
        Cancelled: through `job`.
    """
    job = job or Job()
    source = source or official_source()
    if Path(source.filename).name != source.filename or not source.url.startswith(("http://", "https://")):
        raise DataError(f"'{source.url}' (as '{source.filename}') is no web address of a file.")
    target = folder / source.filename
    part = folder / (source.filename + ".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            if _md5(target, job) == source.md5:
                job.note(f"{target} is there already and complete.")
                return target
            job.note(f"{target} is damaged (its MD5 is another): fetching it again.")
        resumed = part.is_file() and part.stat().st_size > 0
        _download(source, part, job, timeout, pause)
        if resumed and _md5(part, job) != source.md5:
            job.note("The part kept from an earlier attempt does not fit: starting again.")
            part.unlink()
            _download(source, part, job, timeout, pause)
        found = _md5(part, job)
        if found != source.md5:
            what = _describe(part)
            part.unlink()
            raise DataError(
                f"{source.url} sent {what}, not the file promised (MD5 {found}, wanted {source.md5}); it was removed. "
                "A proxy or a log-in page of the network may have answered instead. " + _BY_HAND.format(url=source.url)
            )
        part.replace(target)
    except OSError as error:
        _cannot_write(folder, error)
    return target


def _download(source: Source, part: Path, job: Job, timeout: float, pause: float) -> None:
    """Get the whole file into `part`, over as many connections as it takes."""
    best, failures = part.stat().st_size if part.is_file() else 0, 0
    while True:
        try:
            _connect(source, part, job, timeout)
            return
        except _Interrupted as interruption:
            size = part.stat().st_size if part.is_file() else 0
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
    """One connection: go on where `part` ends, if the server can.

    Raises:
        _Interrupted: it ended before the whole file was there.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(source.url, headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    job.checkpoint()
    with _network_errors(source):
        try:
            response = urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                # Either all of it is here, or the part is longer than the file; `fetch` sees by its checksum.
                if _whole(error.headers.get("Content-Range", "")) == have:
                    return
                part.unlink()
                raise _Interrupted("The kept part is not of this file") from error
            raise
    with response:
        length = response.headers.get("Content-Length")
        expected = int(length) if length and length.isdigit() else None
        start = _start(response.headers.get("Content-Range", "")) if response.status == 206 else 0
        if start not in (0, have):
            raise DataError(f"{source.url} answered with another part of the file than was asked for.")
        if expected is not None and start + expected > MAX_BYTES:
            raise DataError(f"{source.url} announces {start + expected:,} bytes, far more than CIFAR-10 has.")
        with part.open("ab" if start else "wb") as file:
            received = _receive(source, response, file, start, expected, job)
    if expected is not None and received < expected:
        raise _Interrupted("The connection was cut")
    if start + received == 0:
        raise _Interrupted("The server sent nothing")


def _receive(
    source: Source, response: http.client.HTTPResponse, file: IO[bytes], start: int, expected: int | None, job: Job
) -> int:
    received = 0
    text = f"Fetching {source.filename}"
    while True:
        total = start + (received if expected is None else expected)
        job.progress(start + received, total, text)
        with _network_errors(source):
            # `read1` returns what is there: a slow server can be cancelled, and loses nothing when it stops.
            piece = response.read1(_CHUNK)
        if not piece:
            return received
        file.write(piece)
        received += len(piece)
        if start + received > MAX_BYTES:
            raise DataError(f"{source.url} sends far more than CIFAR-10 has; stopped after {MAX_BYTES:,} bytes.")


@contextlib.contextmanager
def _network_errors(source: Source) -> Iterator[None]:
    """Tell what another attempt may mend (`_Interrupted`) from what it will not (DataError)."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500 or error.code in (408, 429):
            raise _Interrupted(f"The server answered {error.code} {error.reason}") from error
        raise DataError(
            f"{source.url}: the server answered {error.code} {error.reason}. {_BY_HAND.format(url=source.url)}"
        ) from error
    except TimeoutError as error:
        raise _Interrupted("The server stopped answering") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _Interrupted("The server did not answer in time") from error
        if isinstance(error.reason, ConnectionError) and not isinstance(error.reason, ConnectionRefusedError):
            raise _Interrupted("The connection was cut") from error
        reason = getattr(error.reason, "strerror", None) or error.reason
        if isinstance(error.reason, socket.gaierror):
            reason = f"its address could not be found ({reason}); there may be no network"
        raise DataError(f"{source.url} cannot be reached: {reason}. {_BY_HAND.format(url=source.url)}") from error
    except (http.client.HTTPException, ConnectionError, OSError) as error:
        raise _Interrupted(f"The connection was cut ({error or type(error).__name__})") from error


def _start(content_range: str) -> int | None:
    """First byte in "bytes 100-199/1000"."""
    match = re.match(r"bytes (\d+)-", content_range)
    return int(match[1]) if match else None


def _whole(content_range: str) -> int | None:
    """Length of the whole file in "bytes */1000"."""
    match = re.match(r"bytes \*/(\d+)$", content_range)
    return int(match[1]) if match else None


def _md5(path: Path, job: Job) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(2**22):
            job.checkpoint()
            digest.update(piece)
    return digest.hexdigest()


def _describe(path: Path) -> str:
    """What somebody sent instead, for the message."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    kind = "a web page" if start.startswith((b"<!doctype", b"<html")) else "something"
    return f"{kind} of {path.stat().st_size:,} bytes"


def _cannot_write(folder: Path, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DataError(
            f"There is no space left in {folder}: CIFAR-10 needs 170 MB. Free some and start again, or choose another."
        ) from error
    raise DataError(f"{folder} cannot be used: {error.strerror or error}. Choose another folder.") from error
