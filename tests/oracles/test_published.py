"""The published address and checksums of CIFAR-10: torchvision knows them, too."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ciad_engine import download
from ciad_engine.datasets import official


def test_address_and_checksums_are_torchvisions() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("torchvision is not installed here")
    # Read, because it cannot be imported beside a torch that it was not built for.
    text = (Path(spec.submodule_search_locations[0]) / "datasets" / "cifar.py").read_text(encoding="utf-8")
    text = text[text.index("class CIFAR10(") : text.index("class CIFAR100(")]
    archive = download.CIFAR10
    for name, value in (("url", archive.url), ("filename", archive.filename), ("tgz_md5", archive.md5)):
        assert f'{name} = "{value}"' in text
    for file, md5 in {**official.TRAIN_MD5, **official.TEST_MD5}.items():
        assert f'["{file}", "{md5}"]' in text
    assert f'"filename": "{official.META}"' in text
    assert f'"md5": "{official.META_MD5}"' in text
