"""An empty store, in each kind of database."""

from collections.abc import Iterator

import pytest
from example_answers import opened

from service.store.prediction_log import Store


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Open an empty store."""
    store = opened(database_url)
    store.prepare()
    yield store
    store.database.close()
