"""The synthetic data set, and the bundle that the tiny recipe makes of it."""

import pytest

from ciad_engine import bundles
from ciad_engine.datasets import DataSet
from ciad_engine.training.stages import train_bundle
from tests.engine.training.tiny import TINY, synthetic


@pytest.fixture(scope="package")
def data() -> DataSet:
    return synthetic()


@pytest.fixture(scope="package")
def whole(data, tmp_path_factory) -> bundles.Card:
    """Trained in one go; not to be changed."""
    return train_bundle(TINY, data, tmp_path_factory.mktemp("whole") / "bundle", device="cpu")
