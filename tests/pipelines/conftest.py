"""Two engines for all tests, one with tiny UNets in it and one with tiny transformers, made on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines import tiny

if TYPE_CHECKING:
    from pipelines.engine import Engine
    from pipelines.pictures import PictureStore


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Tiny models under the names "sd_velocity", "sd_noise", "sd2" and "sdxl"; a preview at every step."""
    from pipelines.engine import Engine

    made = Engine(preview_seconds=0)
    for name, build in tiny.KINDS.items():
        made.adopt(name, build(), tiny.card_for(name))
    return made


@pytest.fixture(scope="session")
def transformers() -> Engine:
    """Every tiny transformer under its name in `tiny_transformers.KINDS`; a preview at every step."""
    from pipelines.engine import Engine
    from tests.pipelines import tiny_transformers

    made = Engine(preview_seconds=0)
    for name, build in tiny_transformers.KINDS.items():
        made.adopt(name, build(), tiny_transformers.card_for(name))
    return made


@pytest.fixture(params=list(tiny.KINDS))
def model(request: pytest.FixtureRequest) -> str:
    """Each tiny UNet in turn."""
    return str(request.param)


@pytest.fixture
def pipe(engine: Engine) -> Any:
    """The velocity model's stock pipeline."""
    return engine.load("sd_velocity").pipe


@pytest.fixture
def store() -> PictureStore:
    """An empty picture store."""
    from pipelines.pictures import PictureStore

    return PictureStore()
