"""Every tiny transformer family in one engine; each of them in turn."""

from __future__ import annotations

import pytest

from pipelines.engine import Engine
from tests.pipelines import tiny_transformers as tt


@pytest.fixture(scope="session")
def engine() -> Engine:
    """All tiny transformer pipelines, a preview at each step."""
    made = Engine(preview_seconds=0)
    for name, build in tt.KINDS.items():
        made.adopt(name, build(), tt.card_for(name))
    return made


@pytest.fixture(params=list(tt.KINDS))
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)
