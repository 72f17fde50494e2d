"""A second server of the regression model, with what the first one has not."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gateways import Gateway

PAGE = "https://app.example"
"""The origin whose pages may read the answers."""


@pytest.fixture(scope="session")
def restricted(bundles: Any) -> "Iterator[Gateway]":
    """Serve the regression model to pages of one origin, without a store, and with few explanations for a client."""
    import yaml
    from example_folders import VALUE_CONFIG

    path = bundles.config("values").with_name("restricted.yaml")
    cors = {"origins": [PAGE], "headers": ["X-Extra"], "max_age_seconds": 60}
    changes = {
        "server": {**VALUE_CONFIG["server"], "cors": cors},
        "store": {"enabled": False},
        "explain": {"rate": 12, "burst": 3, "max_rows": 2},
    }
    path.write_text(yaml.safe_dump(VALUE_CONFIG | changes))
    state = bundles.folder / "restricted"
    gateway: Gateway = bundles.serve("values", config=path, GUARDHOUSE_STATE=str(state))
    gateway.state = state
    yield gateway.wait_ready()
    gateway.stop()
