"""The built wheel, installed where no checkout is in sight, must find its code and its shipped files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")

ROOT = Path(__file__).resolve().parents[2]
SHIPPED_BUNDLE = ROOT / "resources" / "models" / "paper"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("ciad-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path, dict[str, str]]:
    """(command of a clean Python, folder the wheel was installed to, environment that leads to it)."""
    base = tmp_path_factory.mktemp("elsewhere")
    target = base / "installed"
    # As an installer does with `--no-deps --target` (a venv made by uv has no pip to ask).
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    # A Python of its own that sees the wheel and the packages it declares, and nothing else that happens to be
    # installed here: neither this checkout nor what only the tests need.
    venv.create(base / "python", with_pip=False, symlinks=os.name != "nt")
    python = base / "python" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    declared = base / "declared"
    declared.mkdir()
    for source in _declared(target):
        try:
            (declared / source.name).symlink_to(source)
        except OSError as error:
            pytest.skip(f"links cannot be made here: {error}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(target), str(declared)])
    return [str(python)], target, environment


def _declared(target: Path) -> set[Path]:
    """What lies in site-packages of the packages that the wheel in `target` requires, and of those they require."""
    (own,) = metadata.distributions(path=[str(target)])
    waiting, seen, found = list(own.requires or ()), set(), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        waiting += distribution.requires or ()
        root = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        found |= {root / top for top in tops if (root / top).exists()}
    return found


def test_every_module_and_every_shipped_file_is_in_the_wheel(wheel: Path) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("ciad_engine", "ciad_app")
        for path in (ROOT / package).rglob("*.py")
    } | {
        f"ciad_engine/_resources/{path.relative_to(ROOT / 'resources').as_posix()}"
        for path in (ROOT / "resources").rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    assert wanted <= names, sorted(wanted - names)
    assert not [name for name in names if name.split("/")[0] not in ("ciad_engine", "ciad_app")
                and ".dist-info/" not in name]  # fmt: skip
    assert "ciad = ciad_engine.cli:main" in entry_points
    assert "ciad-gui = ciad_app.main:main" in entry_points


def test_packages_and_resources_are_those_of_the_wheel(installed, tmp_path: Path) -> None:
    python, target, environment = installed
    code = (
        "import ciad_engine, ciad_app; from ciad_engine import resources;"
        "print(ciad_engine.__file__, ciad_app.__file__, resources.path('icons'), sep='\\n')"
    )
    done = subprocess.run(
        [*python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        assert Path(line).resolve().is_relative_to(target.resolve())
        assert Path(line).exists()


def test_what_is_not_declared_is_not_there(installed, tmp_path: Path) -> None:
    """The other tests here mean something: `pytest` is no package that the program requires."""
    python, _, environment = installed
    done = subprocess.run(
        [*python, "-c", "import pytest"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "No module named 'pytest'" in done.stderr


def test_inspect_runs_from_the_wheel(installed, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With the bundle it ships; before one is trained into the checkout, with an untrained one."""
    python, _, environment = installed
    pixels = np.linspace(0, 255, 40 * 30 * 3).reshape(30, 40, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "ramp.png")
    shipped = (SHIPPED_BUNDLE / "card.json").is_file()
    bundle = [] if shipped else ["--bundle", str(request.getfixturevalue("untrained_bundle"))]
    # What the console script `ciad` does.
    start = [*python, "-c", "import sys; from ciad_engine.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*start, "inspect", "ramp.png", "--attack", "fgsm", "--json", "--device", "cpu", *bundle],
        cwd=tmp_path, env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = json.loads(done.stdout)
    assert "ramp.png" in json.dumps(record)
