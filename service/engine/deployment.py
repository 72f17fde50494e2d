"""What the server will serve: the bundle's config and the deployed config, read without loading the model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from guards.bundle.manifest import Manifest, read_manifest
from guards.config.config import Config, differences
from guards.config.load import load_config
from guards.errors import Mistake
from guards.monitors.teachers import TeacherParams
from service.settings import Settings

__all__ = ["Deployment", "groups_of_requests", "unknown_principals"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The bundle's manifest, and the deployed config if there is one."""

    manifest: Manifest
    deployed: Config | None

    @property
    def config(self) -> Config:
        """The config that the server uses."""
        return self.deployed or self.manifest.config

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read a bundle's manifest and the deployed config.

        Raises:
            Mistake: the bundle or the config cannot be read, the bundle is not the bundle that the settings ask for, or
                the deployed config can only be used after a new fit; or a monitor trusts principals, and there are no
                keys.
        """
        manifest = read_manifest(settings.bundle, bundle_id=settings.bundle_id, verify=False)
        deployed = None if settings.config is None else load_config(settings.config)
        if deployed is not None and (keys := differences(manifest.config, deployed)):
            raise Mistake(f"{settings.config}: it differs from the fitted config in {', '.join(keys)}; fit anew")
        deployment = cls(manifest, deployed)
        if settings.api_keys is None and (keys := keys_of_trust(deployment.config)):
            raise Mistake(
                f"{keys[0]}: without keys the server cannot tell principals apart: name a file of keys in "
                f"GUARDHOUSE_API_KEYS_FILE, or leave {' and '.join(keys)} out"
            )
        return deployment


def keys_of_trust(config: Config) -> list[str]:
    """List the keys of a config that say whose rows a monitor counts."""
    return [
        f"monitors.{place}.{key}"
        for place, params in enumerate(config.monitors)
        for key in TeacherParams.model_fields
        if getattr(params, key) is not None
    ]


def unknown_principals(config: Config, known: Iterable[str]) -> list[str]:
    """Write a sentence for each principal that a monitor trusts and that has no entry in the file of keys."""
    names = set(known)
    return [
        f"monitor {params.name}: `principals` names {principal}, and the file of keys has no such principal"
        for params in config.monitors
        for principal in params.principals or ()
        if principal not in names
    ]


def groups_of_requests(config: Config) -> list[str]:
    """List the names that a request uses for the attributes whose values come with the request."""
    sources = (getattr(monitor, "source", None) for monitor in config.monitors)
    return [source.request for source in sources if source is not None and source.request is not None]
