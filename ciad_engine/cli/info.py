"""`ciad info`: the block to paste in a bug report."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform

from ciad_engine import __version__, bundles, files, resources
from ciad_engine.cli import console
from ciad_engine.counting import counted, disk_size
from ciad_engine.errors import BundleError, CiadError

_PACKAGES = ("torch", "numpy", "pillow", "safetensors", "platformdirs", "PySide6-Essentials", "pyqtgraph")


def add(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, job: console.ConsoleJob) -> int:
    rows = [
        ("CIAD", __version__),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("system", f"{platform.platform()}, {os.cpu_count()} CPUs"),
        *((name, _version(name)) for name in _PACKAGES),
        ("device", _device()),
        ("shipped files", str(resources.path())),
        ("samples", _samples(job)),
        ("data folder", _data_folder()),
        ("database", _database()),
    ]
    print(console.columns(rows))
    print("bundles")
    lines, broken = _bundles()
    for line in lines:
        print(f"  {line}")
    return 1 if broken else 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device() -> str:
    try:
        from ciad_engine import compute

        device = compute.choose_device()
        return f"{device} ({compute.describe_device(device)})"
    except (ImportError, OSError, RuntimeError) as error:  # a report must be written where torch is broken
        return f"torch cannot be used: {' '.join(str(error).split())}"


def _samples(job: console.ConsoleJob) -> str:
    from ciad_engine import datasets

    try:
        found = datasets.choose("samples", job)
    except CiadError as error:
        return f"cannot be used: {error}"
    return f"{counted(len(found.images), 'image')} ({found.source})"


def _data_folder() -> str:
    from ciad_engine import download

    try:
        folder = download.default_folder()
    except CiadError as error:
        return f"none: {error}"
    try:
        held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror or error}"
    size = disk_size(files.size_of(folder))
    return f"{folder} ({f'{size}: ' + ', '.join(held) if held else 'empty; `ciad data fetch` fills it'})"


def _database() -> str:
    from ciad_engine import runs

    try:
        with runs.Database() as database:
            runs_there = database.runs()
            damaged = sum(bool(run.damage) for run in runs_there)
            said = f", {damaged:,} of them damaged: see `ciad runs list`" if damaged else ""
            return f"{database.path} ({counted(len(runs_there), 'run')}, {disk_size(database.size)}{said})"
    except CiadError as error:
        return f"cannot be used: {error}"


def _bundles() -> tuple[list[str], int]:
    """Return a line for each bundle, and how many of them, or of the folders they lie in, cannot be used."""
    lines, unusable = [], 0
    for root in bundles.roots():
        try:
            found = sorted(path for path in root.iterdir() if os.path.isdir(path))  # noqa: PTH112 - never raises
        except FileNotFoundError:
            continue
        except OSError as error:
            lines.append(f"{root}: cannot be read: {error.strerror or error}")
            unusable += 1
            continue
        for folder in found:
            try:
                card = bundles.read_card(folder)
                broken = check(card)
            except BundleError as error:
                lines.append(f"{folder}: BROKEN: {error}")
                unusable += 1
                continue
            size = disk_size(sum(map(files.size_of, bundles.files_of(card))))
            state = f"BROKEN: {broken}" if broken else f"complete, {size}, {', '.join(card.content['networks'])}"
            unusable += 1 if broken else 0
            lines.append(f"{card.name}: {folder}: card {card.checksum[:12]}: {state}")
    return lines or ["none"], unusable


def check(card: bundles.Card) -> str:
    """Return what is wrong with the files of a bundle; "" if nothing is. Loads no network."""
    for role in card.content["networks"]:
        path = bundles.weights_file(card, role)
        # Not Path.exists, which raises where a folder above may not be entered.
        if not os.path.lexists(path):
            return f"{path.name} is missing"
        try:
            bundles.read_weights(card, role)
        except BundleError as error:
            return str(error).rstrip(".")
    return ""
