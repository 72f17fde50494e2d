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
    assert deployment.config == deployment.manifest.config == parse(VALUE_CONFIG)
    assert deployment.manifest.classes == ()
    assert deployment.manifest.row_schema.names == ("a", "b", "c")


def test_deploy_time_keys_may_change(bundle: Path) -> None:
    """The keys that the contract allows to change come from the config beside the code."""
    changes = {"mode": "shadow", "false_alarm_budget": 0.2, "server": {"timeout_seconds": 3}}
    deployment = deployed(bundle, VALUE_CONFIG | changes)
    assert deployment.config.mode == "shadow"
    assert deployment.manifest.config.mode == "enforce"


def test_what_needs_a_refit_is_refused_by_name(bundle: Path) -> None:
    """Anything else that differs is named, key by key."""
    with pytest.raises(Mistake, match=r"model\.builder, version; fit anew"):
        deployed(bundle, VALUE_CONFIG | {"version": "2", "model": VALUE_CONFIG["model"] | {"builder": "other:build"}})


def test_only_the_bundle_of_the_settings_is_read(bundle: Path) -> None:
    """With an id in the settings any other bundle is refused, and both ids are named."""
    found = Deployment.read(Settings(bundle=bundle)).manifest.id
    assert Deployment.read(Settings(bundle=bundle, bundle_id=found)).manifest.id == found
    other = f"sha256:{64 * '0'}"
    with pytest.raises(Mistake, match=rf"the id of this bundle is {found}, and .* is {other}; name the folder"):
        Deployment.read(Settings(bundle=bundle, bundle_id=other))


def test_a_missing_bundle_is_a_sentence(tmp_path: Path) -> None:
    """A path with no bundle says how to make one there."""
    with pytest.raises(Mistake, match="guardhouse fit"):
        Deployment.read(Settings(bundle=tmp_path))
