"""A bundle on disk that a test may damage."""

from pathlib import Path

import pytest
import tiny_models


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Write a bundle to tamper with."""
    tiny_models.fitted("tensor").bundle.save(tmp_path / "b")
    return tmp_path / "b"
