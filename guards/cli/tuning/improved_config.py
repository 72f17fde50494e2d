"""Writes a config with another detector for one guard; what stands in other sections stays as the user wrote it."""

from collections.abc import Mapping
from typing import Any

import yaml

from guards.cli.tuning.feature_layers import DEFAULT
from guards.cli.tuning.workbench import Choice
from guards.config.load import read_document

__all__ = ["changed_document", "changed_text"]


def changed_document(document: Mapping[str, Any], guard: int, choice: Choice) -> dict[str, Any]:
    """Give the document of a config with the choice as the detector of the guard number ``guard``."""
    guards = [dict(each) for each in document["guards"]]
    guards[guard] |= {"detector": dict(choice.parameters)}
    if guards[guard].get("share", 1.0) != choice.share:
        guards[guard]["share"] = choice.share
    changed = {**document, "guards": guards}
    if choice.layer != DEFAULT:
        changed["model"] = {**document["model"], "features": choice.layer}
    return changed


def changed_text(text: str, changed: Mapping[str, Any], header: str) -> str:
    """Replace the sections of a config's text that differ in ``changed``, and put a comment before it.

    A section that is replaced loses its comments; all other lines stay as they are, unless the config is one collection
    in braces, or has aliases.
    """
    before, root = read_document(text), yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - the config was read before
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    if root.flow_style or aliases:  # a section cannot be replaced alone
        return comment + _dumped(changed)
    sections = [(key, value) for key, value in root.value if changed.get(key.value) != before.get(key.value)]
    for key, value in reversed(sections):
        section = _dumped({key.value: changed[key.value]}).rstrip("\n")
        text = text[: key.start_mark.index] + section + text[_end(value) :]
    return comment + text


def _dumped(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(
        dict(document), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None, indent=2
    )


def _end(node: yaml.Node) -> int:
    """Find where the last scalar or flow collection of a section ends: comments behind it belong to the next one."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
