"""Sets torch to one thread, so that the laws are drawn alike on every machine; two servers of one database."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from service.store.database import Database

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def replicas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list["Database"]]:
    """Connect two servers to one database."""
    from service.store.database import Database
    from service.store.database_url import parse_url

    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('laws') / 'x.db'}"
    else:
        url = request.getfixturevalue("postgres").database()
    databases = [Database(parse_url(url)) for _ in range(2)]
    yield databases
    for database in databases:
        database.close()
