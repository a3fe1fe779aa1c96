#!/usr/bin/env python3
"""Set CIAD up in this checkout and start it, or run its whole test suite.

    python3 packaging/bootstrap.py run [arguments of ciad-gui]
    python3 packaging/bootstrap.py test [arguments of pytest]
    python3 packaging/bootstrap.py test --soak [--part 0.1]
    python3 packaging/bootstrap.py install

The first start makes the environment `.venv` in the checkout and installs into it exactly the packages
of `packaging/lock.txt`, then the project itself (editable). `test` adds those of `packaging/lock-test.txt`.
`test --soak` tries thousands of damaged inputs, kills and cancels instead (half an hour; a part of it takes less).
Later starts only compare a stamp.

Standard library only. The syntax of this file stays valid on Python 3.8, and it imports its two neighbours,
`system` and `environment`, late: so a Python that is too old gets a sentence instead of a SyntaxError.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 11), (3, 13)


def main(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command not in ("run", "test", "install"):
        print(__doc__)
        return 0 if command in ("-h", "--help") else 2
    complaint = wrong_python()
    if complaint:
        print(complaint, file=sys.stderr)
        return 1

    import environment
    import system

    try:
        tests = command == "test"
        prepared = environment.ready(tests)
        uv = None if prepared else environment.usable_uv()
        system.provide_system_packages(command, need_venv=not prepared and uv is None)
        if not prepared:
            environment.make_environment(uv, tests)
        if command == "run":
            return start_program(str(environment.script("ciad-gui")), rest)
        if tests and "--soak" in rest:
            rest.remove("--soak")
            python = str(environment.python_of_environment())
            return subprocess.call([python, "-m", "tests.soak", *rest], cwd=str(environment.ROOT))
        if tests:
            return run_checks(rest)
        print(f"CIAD is installed in {environment.VENV}.")
        return 0
    except system.Stop as stop:
        print(f"\n{stop}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to go on.", file=sys.stderr)
        return 130


def wrong_python() -> str:
    """Return why this Python or machine cannot run CIAD, and what can; "" if it can."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        better = [name for name in ("python3.12", "python3.13", "python3.11") if shutil.which(name)]
        advice = f"run it with {better[0]} instead of python3" if better else "install one and run it with that"
        return f"CIAD needs Python 3.11, 3.12 or 3.13; this is {platform.python_version()}: {advice}."
    if sys.maxsize < 2**32:
        return f"CIAD needs a 64-bit Python; {sys.executable} is a 32-bit one."
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return "CIAD needs a Mac with Apple silicon and a Python built for it (arm64): PyTorch ended Intel builds."
    return ""


def start_program(program: str, arguments: list[str]) -> int:
    """Become `ciad-gui` (on Windows: run it and hand on its exit code)."""
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(program, [program, *arguments])
    return subprocess.call([program, *arguments])


def run_checks(arguments: list[str]) -> int:
    """Run all checks, also after one failed; pytest comes last, so that its summary stays in sight."""
    import environment

    python = str(environment.python_of_environment())
    checks = {
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "mypy": [python, "-m", "mypy"],
        "lint-imports": [str(environment.script("lint-imports"))],
        "pytest": [python, "-m", "pytest", *arguments],
    }
    results = {}
    for name, command in checks.items():
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        results[name] = code = subprocess.call(command, cwd=str(environment.ROOT))
        result = f"FAILED (exit code {code})" if code else "passed"
        print(f"== {name}: {result}, {time.monotonic() - began:.0f} s", flush=True)
    failed = [name for name, code in results.items() if code]
    print("\n" + ("FAILED: " + ", ".join(failed) if failed else "All checks passed: " + ", ".join(results) + "."))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
