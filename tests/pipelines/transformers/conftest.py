"""Every tiny transformer family in the engine of these tests; each of them in turn."""

from __future__ import annotations

import pytest

from pipelines.engine import Engine
from tests.pipelines import tiny_transformers as tt


@pytest.fixture
def engine(transformers: Engine) -> Engine:
    return transformers


@pytest.fixture(params=list(tt.KINDS))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)
