"""Small synthetic data sets, made once for all tests of the engine. Tests that change one copy it first."""

from pathlib import Path

import pytest

from tests.engine import helpers_data


@pytest.fixture(scope="session")
def tiny_cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cifar-10-batches-py` with six batches of 20 random images: 100 to train, 20 to test."""
    return helpers_data.write_batches(tmp_path_factory.mktemp("cifar"))


@pytest.fixture(scope="session")
def tiny_class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/{train,test}/<class>/*.png`, two random images a class and part."""
    return helpers_data.write_class_folders(tmp_path_factory.mktemp("classes"))
