"""What a server is about to serve: the bundle's description, and the config beside the code."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from example_folders import VALUE_CONFIG

from guards.config.config import parse
from guards.errors import Mistake
from service.engine.deployment import Deployment
from service.settings import Settings

if TYPE_CHECKING:
    from conftest import Bundles


@pytest.fixture
def bundle(bundles: "Bundles", tmp_path: Path) -> Path:
    """Copy the description of a bundle, without its tensors."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(bundles.bundle("values") / "manifest.json", folder)
    return folder


def deployed(bundle: Path, document: object) -> Deployment:
    """Read a bundle with a config beside it."""
    path = bundle.parent / "gateway.yaml"
    path.write_text(yaml.safe_dump(document))
    return Deployment.read(Settings(bundle=bundle, config=path))


def test_a_bundle_alone_is_served_as_fitted(bundle: Path) -> None:
    """Without a config the fitted one holds."""
    deployment = Deployment.read(Settings(bundle=bundle))
    assert deployment.config == deployment.fitted == parse(VALUE_CONFIG)
    assert deployment.classes == ()
    assert deployment.schema.names == ("a", "b", "c")


def test_deploy_time_keys_may_change(bundle: Path) -> None:
    """The keys that the contract allows to change come from the config beside the code."""
    changes = {"mode": "shadow", "false_alarm_budget": 0.2, "server": {"timeout_seconds": 3}}
    deployment = deployed(bundle, VALUE_CONFIG | changes)
    assert deployment.config.mode == "shadow"
    assert deployment.fitted.mode == "enforce"


def test_what_needs_a_refit_is_refused_by_name(bundle: Path) -> None:
    """Anything else that differs is named, key by key."""
    with pytest.raises(Mistake, match=r"model\.builder, version; fit anew"):
        deployed(bundle, VALUE_CONFIG | {"version": "2", "model": VALUE_CONFIG["model"] | {"builder": "other:build"}})


def test_a_missing_bundle_is_a_sentence(tmp_path: Path) -> None:
    """A path with no bundle says how to make one there."""
    with pytest.raises(Mistake, match="guardhouse fit"):
        Deployment.read(Settings(bundle=tmp_path))
