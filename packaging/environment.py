"""Check, make and repair the environment `.venv`.

It holds exactly the packages of `lock.txt`, checked against their SHA-256, and the project itself (editable):
the program. Those of `lock-test.txt` are added for the tests.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from system import Stop, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "packaging" / "lock.txt"
LOCK_CPU = ROOT / "packaging" / "lock-cpu.txt"
LOCK_TEST = ROOT / "packaging" / "lock-test.txt"
STAMP = VENV / "ciad-stamp.txt"
LOG = VENV / "ciad-install.log"
INCOMPLETE = "incomplete"

# Bytes on the disk: the environment with a CPU build of torch and what is downloaded for it, and what CUDA adds.
FREE_SPACE, CUDA_SPACE = 3_000_000_000, 5_000_000_000

# On Linux the registry's torch is built for CUDA and needs these, several GB. A CPU build does not.
CUDA_PACKAGE = re.compile(r"\b(nvidia-|cuda-|triton\b)")

# pip settings for where packages come from or how to reach them. uv does not read them, so if there are any,
# pip installs, also when uv is at hand.
PIP_SETTINGS = (
    "index-url", "extra-index-url", "find-links", "no-index", "cert", "client-cert", "trusted-host", "proxy"
)  # fmt: skip

# A pattern in an installer's output -> the sentence a person needs; the first that fits counts.
FAILURES = (
    (
        r"No space left on device|not enough space on the disk|os error (28|112)\b|Disk quota exceeded",
        "The disk is full: make room for at least 3 GB (8 GB with CUDA) in {root} and in the temporary folder, "
        "then run this again.",
    ),
    (
        r"DO NOT MATCH THE HASHES|[Hh]ash mismatch",
        "A package was refused because it is not the one packaging/lock.txt names (its SHA-256 differs): "
        "try again, and if that does not help report it, with {log}.",
    ),
    (
        r"Read-only file system|Permission denied|Access is denied",
        "A file could not be written: make {root} writable for you, or use a copy of it that is; details in {log}.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|certificate verify failed",
        "The package registry's certificate was not accepted: behind a company proxy set PIP_CERT to its "
        "certificate file, then run this again.",
    ),
    (
        r"Failed to establish a new connection|name resolution|Name or service not known|getaddrinfo failed"
        r"|nodename nor servname|Network is unreachable|Connection (refused|reset|aborted)|dns error|[Tt]imed out"
        r"|error sending request|Cannot connect to proxy|IncompleteRead|Failed to fetch|tcp connect error",
        "The package registry cannot be reached: connect to the internet (behind a proxy set HTTPS_PROXY), "
        "then run this again; what was downloaded is kept.",
    ),
    (
        r"No matching distribution found|no wheels|No solution found|not a supported wheel",
        "A package of packaging/lock.txt has no build for this system: CIAD runs on Linux (x86-64 with glibc 2.34, "
        "ARM64 with glibc 2.39, or newer), macOS 14 (Apple silicon) and Windows (x86-64); details in {log}.",
    ),
)


def python_of_environment() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def script(name: str) -> Path:
    return VENV / (f"Scripts/{name}.exe" if os.name == "nt" else f"bin/{name}")


def place(installer: str) -> str:
    """Return what an environment cannot change without being made anew (scripts hold absolute paths)."""
    return "Python {}.{}, {}, {}".format(*sys.version_info[:2], installer, ROOT)


def digest(*inputs: Path) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()


def program_digest() -> str:
    """Return a digest of everything the installed program depends on."""
    return digest(LOCK, LOCK_CPU, ROOT / "pyproject.toml")


def stamp() -> tuple[str, str, str]:
    """Return the place, the program's digest and the test tools' that the last installation wrote; "" if missing."""
    try:
        lines = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    made_by, program, tools = (*lines, "", "", "")[:3]
    return made_by, program, tools


def write_stamp(installer: str, program: str, tools: str) -> None:
    VENV.mkdir(exist_ok=True)
    STAMP.write_text(f"{place(installer)}\n{program}\n{tools}\n", encoding="utf-8")


def ready(tests: bool = False) -> bool:
    """Return whether the program (and the test tools) are complete, up to date and still have their Python."""
    made_by, program, tools = stamp()
    unchanged = made_by in (place("uv"), place("pip")) and program == program_digest()
    present = python_of_environment().exists() and script("ciad-gui").exists()
    return unchanged and present and (not tests or tools == digest(LOCK_TEST))


def usable_uv() -> str | None:
    """Return the path of uv, or None if it is not installed or would miss what pip is configured to use."""
    uv = shutil.which("uv")
    if uv and pip_is_configured():
        say("Using pip, because it is configured (PIP_... variables or `pip config list`) and uv does not read that.")
        return None
    return uv


def pip_is_configured() -> bool:
    # The variables first: a Python without a pip of its own (Debian's) cannot be asked, its environments have one.
    if any(os.environ.get("PIP_" + name.upper().replace("-", "_")) for name in PIP_SETTINGS):
        return True
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    return bool(re.search(rf"\.({'|'.join(PIP_SETTINGS)})=", listed.stdout.decode(errors="replace")))


def make_environment(uv: str | None, tests: bool) -> None:
    """Make, update or repair `.venv`; test tools that it had, it keeps. The stamp comes when all is in place."""
    began = time.monotonic()
    installer = "uv" if uv else "pip"
    python = python_of_environment()
    try:
        made_by, program, tools = stamp()
        usable = made_by == place(installer) and INCOMPLETE not in (program, tools) and python.exists()
        whole = usable and ready()
        tests = tests or bool(tools)
        if not usable:
            clear_environment()
            check_space(FREE_SPACE, "8 GB where torch comes with CUDA")
            say(f"Setting up .venv with {installer} and Python {platform.python_version()}: some minutes, once.")
        elif whole:
            say("Adding the test tools of packaging/lock-test.txt to .venv.")
        else:
            say("Updating .venv: packaging/lock.txt or pyproject.toml changed.")
        # If this is killed, what is marked incomplete is made anew; a whole program starts all the same.
        write_stamp(installer, program if whole else INCOMPLETE, INCOMPLETE if tests else "")
        LOG.write_text("", encoding="utf-8")
        if not usable:
            step([uv, "venv", "--allow-existing", "--python", sys.executable, str(VENV)] if uv else
                 [sys.executable, "-m", "venv", str(VENV)])  # fmt: skip
        install_packages(uv, not whole, tests)
        write_stamp(installer, program_digest(), digest(LOCK_TEST) if tests else "")
    except Stop:
        if whole:  # pip and uv fetch everything before they change anything, so one that stops has changed nothing
            write_stamp(installer, program, "")
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Stop(sentence_for("No space left on device", 1)) from error
        raise Stop(
            f"{error.strerror or error} ({error.filename or VENV}): make {ROOT} writable for you, or use a copy of it "
            "that is, then run this again."
        ) from error
    say(f"Ready after {time.monotonic() - began:.0f} s.")


def clear_environment() -> None:
    """Remove a `.venv` of this script that is broken, half made or of another Python; never anything else."""
    if not os.path.lexists(str(VENV)):
        return
    if not VENV.is_dir() or (any(VENV.iterdir()) and not STAMP.exists()):
        if (VENV / "pyvenv.cfg").exists():
            raise Stop(f"{VENV} was not made by this script: use it directly, or move it away and run this again.")
        raise Stop(f"{VENV} exists but is no Python environment: move it away, then run this again.")
    if Path(sys.prefix).resolve() == VENV.resolve():
        raise Stop("Run this with the system's Python: the one in .venv cannot make .venv anew.")
    say("The environment .venv is unfinished, broken or of another Python: making it anew.")
    if VENV.is_symlink():
        VENV.unlink()
        return
    # The stamp goes last: if this is interrupted, the rest is still known to be ours.
    for path in sorted(VENV.iterdir(), key=lambda path: path == STAMP):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        else:
            path.unlink()


def check_space(needed: int, remark: str) -> None:
    """Stop before a download that the disk cannot hold."""
    free = shutil.disk_usage(str(ROOT)).free
    if free < needed:
        raise Stop(
            f"Only {free / 1e9:.1f} GB are free on the disk of {ROOT}: make room for at least "
            f"{needed / 1e9:.0f} GB ({remark}), then run this again."
        )


def install_packages(uv: str | None, program: bool, tests: bool) -> None:
    """Install the parts wanted, and check that everything installed fits together."""
    python = str(python_of_environment())
    pip = [uv, "pip"] if uv else [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    target = ["--python", python] if uv else []
    exact = [*pip, "install", *target, "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r"]
    if program:
        install_program(pip, target, exact)
    if tests:
        step([*exact, str(LOCK_TEST)])
    code, output = quiet([*pip, "check", *target])
    if code:
        raise Stop(f"packaging/lock.txt does not fit pyproject.toml; make it anew (packaging/lock.py):\n{output}")


def install_program(pip: list[str], target: list[str], exact: list[str]) -> None:
    """Install everything of the lock but CUDA's packages; those only if torch asks for them; then the project."""
    # The CPU build of torch is in no general registry, but a folder or an index that pip or uv was told
    # of may hold it. pip would take the registry's build of the same version all the same, because for
    # that one it knows the checksum beforehand; so the CPU build is asked for first, by its full version.
    if sys.platform == "linux" and step([*exact, str(LOCK_CPU)], optional=True):
        say("Found the CPU build of torch: nothing of CUDA is needed.")

    # A lock is one list for all machines, and it cannot say "only with the CUDA build of torch". So the
    # installed torch is asked: `check` evaluates the requirements in the metadata of every package. It
    # misses CUDA's packages if and only if this torch was built for CUDA and this system is Linux.
    common, cuda = split_lock()
    step([*exact, str(common)])
    code, output = quiet([*pip, "check", *target])
    if code and CUDA_PACKAGE.search(output):
        say("This torch is built for CUDA: installing NVIDIA's packages too (several GB).")
        check_space(CUDA_SPACE, "for NVIDIA's packages; README.md explains how to do without them")
        step([*exact, str(cuda)])
    step([*pip, "install", *target, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def entries(lock: str) -> list[str]:
    """Return the entries of a lock: each a line "name==version ; marker \\" and its indented lines of hashes."""
    return re.findall(r"^[A-Za-z0-9].*(?:\n[ \t].*)*", lock, re.MULTILINE)


def split_lock() -> tuple[Path, Path]:
    """Write the lock's two parts, without and with CUDA's packages, into the environment's folder."""
    parts = VENV / "ciad-lock.txt", VENV / "ciad-lock-cuda.txt"
    for path, wanted in zip(parts, (False, True), strict=True):
        chosen = [entry for entry in entries(LOCK.read_text(encoding="utf-8"))
                  if bool(CUDA_PACKAGE.match(entry)) == wanted]  # fmt: skip
        path.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return parts


def clean_environment() -> dict[str, str]:
    """Return this process's variables without those that would lead an installer out of `.venv`."""
    led_astray = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES")
    return {**{k: v for k, v in os.environ.items() if k not in led_astray}, "PIP_USER": "0"}


def step(command: list[str], optional: bool = False) -> bool:
    """Run one installer command: its progress is shown, its output logged, its failure a sentence unless `optional`."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=clean_environment()
    )
    assert process.stdout is not None
    lines = ["$ " + " ".join(command)]
    try:
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            lines.append(line)
            if line.lstrip().startswith(("Downloading", "Installing", "Installed", "Prepared", "Building")):
                print("  " + shorten(line.strip()), flush=True)
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    finally:
        write_log(lines)
    if code and not optional:
        raise Stop(sentence_for("\n".join(lines), code))
    return code == 0


def quiet(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(), check=False
    )
    output = done.stdout.decode(errors="replace").strip()
    write_log(["$ " + " ".join(command), output])
    return done.returncode, output


def write_log(lines: list[str]) -> None:
    try:
        with LOG.open("a", encoding="utf-8") as log:
            log.write("\n".join(lines) + "\n")
    except OSError:
        pass  # a full disk must not hide the sentence that says so


def sentence_for(output: str, code: int) -> str:
    """Return the sentence a person needs for a failed installer."""
    for pattern, sentence in FAILURES:
        if re.search(pattern, output):
            return sentence.format(root=ROOT, log=LOG)
    errors = [line.strip() for line in output.splitlines() if re.match(r"\s*(ERROR|error)", line)]
    return (
        f"Installing failed with exit code {code} ({shorten(errors[-1]) if errors else 'no reason given'}): see {LOG}."
    )


def shorten(line: str) -> str:
    return line if len(line) <= 110 else line[:107] + "..."
