import errno
import hashlib
import http.server
import socket
import threading
import time
from pathlib import Path

import pytest

from ciad_engine import download
from ciad_engine.download import Source
from ciad_engine.errors import DataError
from ciad_engine.jobs import Cancelled
from tests.engine.helpers_data import ListJob

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; the attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.asked: list[str | None] = []  # the Range header of each request
        self.status: list[int] = []  # answers of the first requests, before any content
        self.cut_after: int | None = None  # bytes after which every connection ends
        self.cuts = 10**9  # how many connections are cut
        self.ranges = True
        self.length = True
        self.silent = False  # closes the connection without an answer
        self.hangs = threading.Event()  # set when the test is over
        self.hang = False
        self.shift = 0  # answers a range that starts elsewhere

    def handle_error(self, request, client_address) -> None:
        """Clients of these tests hang up on purpose."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.silent:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if server.status:
            self.send_error(server.status.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first, last, whole = start + server.shift, len(server.content) - 1, len(server.content)
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        body = server.content[start:]
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cut_after is not None and server.cuts > 0:
            server.cuts -= 1
            body = body[: server.cut_after]
        self.wfile.write(body)
        if server.hang:
            server.hangs.wait(20)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.hangs.set()
        running.shutdown()
        thread.join()


def source(server: Server) -> Source:
    return Source(f"http://127.0.0.1:{server.server_port}/data.tar.gz", "data.tar.gz", MD5)


def fetch(server: Server, folder: Path, job=None, timeout=5.0) -> Path:
    return download.fetch(folder, job, source(server), timeout=timeout, pause=0.01)


def test_fetches_once_and_checks(server, tmp_path):
    job = ListJob()
    path = fetch(server, tmp_path / "new" / "folder", job)
    assert path == tmp_path / "new" / "folder" / "data.tar.gz"
    assert path.read_bytes() == CONTENT
    done = [seen[0] for seen in job.seen]
    assert done == sorted(done)
    assert job.seen[-1][:2] == (len(CONTENT), len(CONTENT))
    assert len(done) > 3
    assert [p.name for p in path.parent.iterdir()] == ["data.tar.gz"]
    again = ListJob()
    assert fetch(server, path.parent, again) == path
    assert len(server.asked) == 1  # not asked a second time
    assert "there already" in again.notes[0]


def test_a_damaged_file_is_replaced(server, tmp_path):
    (tmp_path / "data.tar.gz").write_bytes(b"half")
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_cut_connections_are_resumed(server, tmp_path):
    server.cut_after = 200_000
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, *(f"bytes={n}-" for n in range(200_000, len(CONTENT), 200_000))]


def test_cut_connections_without_ranges_start_again(server, tmp_path):
    server.ranges, server.cut_after, server.cuts = False, 200_000, 2
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_connection_always_cut_at_the_same_place_is_given_up(server, tmp_path):
    server.ranges, server.cut_after = False, 200_000
    with pytest.raises(DataError, match=r"failed 4 times in a row: The connection was cut.* 200,000 bytes are kept"):
        fetch(server, tmp_path)
    assert (tmp_path / "data.tar.gz.part").read_bytes() == CONTENT[:200_000]
    assert not (tmp_path / "data.tar.gz").exists()


def test_cancelling_keeps_the_part_and_the_next_call_goes_on(server, tmp_path):
    with pytest.raises(Cancelled):
        fetch(server, tmp_path, ListJob(cancel_after=1))
    kept = (tmp_path / "data.tar.gz.part").read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert CONTENT.startswith(kept)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(kept)}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_something_else_starts_again(server, tmp_path, ranges):
    server.ranges = ranges
    part = tmp_path / "data.tar.gz.part"
    part.write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None] if ranges else ["bytes=1000-"]
    part.write_bytes(b"x" * (len(CONTENT) + 7))  # longer than the whole file
    (tmp_path / "data.tar.gz").unlink()
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "data.tar.gz.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_another_range_than_asked_for_is_refused(server, tmp_path):
    (tmp_path / "data.tar.gz.part").write_bytes(CONTENT[:1000])
    server.shift = 5
    with pytest.raises(DataError, match="another part of the file"):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"<!DOCTYPE html><html>Please log in</html>", "a web page of 41 bytes"), (b"\0" * 77, "something of 77 bytes")],
)
@pytest.mark.parametrize("length", [True, False])
def test_garbage_is_removed(server, tmp_path, content, what, length):
    server.content, server.length = content, length
    with pytest.raises(DataError, match=f"sent {what}, not the file promised"):
        fetch(server, tmp_path)
    assert list(tmp_path.glob("data*")) == []


def test_without_a_length(server, tmp_path):
    server.length = False
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["empty", "silent"])
def test_a_server_that_sends_nothing(server, tmp_path, way):
    if way == "empty":
        server.content = b""
    else:
        server.silent = True
    with pytest.raises(DataError, match=r"failed 4 times in a row: The (server sent nothing|connection was cut)"):
        fetch(server, tmp_path)
    assert len(server.asked) == 4


def test_a_server_that_stops_in_the_middle(server, tmp_path):
    server.cut_after, server.cuts, server.hang = 300_000, 1, True
    job = ListJob()
    start = time.perf_counter()
    assert fetch(server, tmp_path, job, timeout=0.3).read_bytes() == CONTENT
    assert any("did not answer in time" in note for note in job.notes)
    assert time.perf_counter() - start < 10


def test_a_server_that_never_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = Source(f"http://127.0.0.1:{deaf.getsockname()[1]}/a", "a", MD5)
        with pytest.raises(DataError, match=r"failed 4 times in a row: The server did not answer in time"):
            download.fetch(tmp_path, None, address, timeout=0.1, pause=0.01)


def test_errors_of_the_server(server, tmp_path):
    server.status = [404]
    with pytest.raises(DataError, match="the server answered 404 Not Found"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1  # asking again would not help
    server.status = [503, 502]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_refused_and_unknown_addresses(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError, match=r"cannot be reached: .*refused"):
        download.fetch(tmp_path, None, Source(f"http://127.0.0.1:{port}/a", "a", MD5), pause=0.01)

    def no_network(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(DataError, match="there may be no network"):
        download.fetch(tmp_path, None, Source("http://nowhere.invalid/a", "a", MD5), pause=0.01)


def test_a_server_that_never_stops(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 500_000)
    with pytest.raises(DataError, match="has 1,048,576 bytes or more, far more than CIFAR-10"):
        fetch(server, tmp_path)
    server.length = False
    with pytest.raises(DataError, match=r"has \d\d\d,\d\d\d bytes or more"):
        fetch(server, tmp_path)


def test_full_disk_and_unusable_folder(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be used"):
        fetch(server, tmp_path / "file" / "folder")

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, raw):
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *a, **k: Full(opened(self, mode)) if "w" in mode else opened(self, mode, *a, **k),
    )
    with pytest.raises(DataError, match=r"There is no space left in .*170 MB"):
        fetch(server, tmp_path)


def test_default_folder_is_the_users_own(own_folders):
    assert download.default_folder() == own_folders / "data" / "data"
