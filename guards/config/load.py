"""Reads a config from a YAML file."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from guards.config.config import Config, parse
from guards.types import Mistake

__all__ = ["load_config", "read_document"]

MOST_BYTES = 1 << 20
"""The parser needs up to 20 s for so many bytes, and longer for more."""


class _Loader(yaml.SafeLoader):
    """Reads only YAML 1.2's booleans and plain decimal numbers, and refuses a key that is given twice.

    So the labels `no`, `012` and `10:30` stay texts. YAML 1.1 would read them as a boolean, as an octal 10 and as 630.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[Hashable]()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if not isinstance(key, Hashable):
                continue  # super() refuses such a key
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0|[1-9][0-9]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, NUMBERS.get(tag, pattern))
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_document(text: str) -> Any:  # noqa: ANN401 - whatever the YAML holds
    """Read a YAML text as configs are read, without validating it.

    Raises:
        yaml.YAMLError, ValueError: the text is no YAML.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def load_config(path: Path) -> Config:
    """Read and validate a config.

    Raises:
        Mistake: the file cannot be read, is too large, is no YAML, or a key is wrong.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)  # one byte more, so that a larger file is not read to its end
        if len(content) > MOST_BYTES:
            raise Mistake(
                f"{path}: a config has at most {MOST_BYTES} bytes, and this file is larger; leave out labels and "
                "categories, which are read from the reference"
            )
        text = content.decode()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise Mistake(
            f"{path}: cannot be read ({unreadable.__class__.__name__}); give the path of a YAML file"
        ) from None
    try:
        document = read_document(text)
    except (yaml.YAMLError, ValueError) as broken:  # a date such as 2024-13-45 is a ValueError
        mark = getattr(broken, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise Mistake(f"{place}: no valid YAML: {getattr(broken, 'problem', None) or broken}") from None
    except RecursionError:
        raise Mistake(f"{path}: it is nested too deeply for a config; see `guardhouse schema`") from None
    return parse(document)
