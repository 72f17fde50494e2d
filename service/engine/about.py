"""What the console says about the served model: its guards, monitors and methods in words, and a few known rows."""

import inspect
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from guards.bundle.folder import STATE
from guards.config.config import Config
from guards.config.plugins import Group, registered
from guards.explanations.neighbours import as_sent
from guards.input.schema import InputSchema

__all__ = ["about", "known_rows"]

MOST_ROWS, MOST_VALUES = 12, 1 << 18
"""The most known rows, and the most numbers in all of them: every front gets the rows as JSON when it starts."""
KNOWN_ROWS = "self_test.x"
SENTENCE_END = re.compile(r"(?<=[.!?])\s")


def about(config: Config, rows: Sequence[Any]) -> dict[str, Any]:
    """Give what the console shows of a config, as plain data; ``rows`` are the known rows."""
    return {
        "task": config.model.task,
        "budget": config.false_alarm_budget,
        "guarantee": config.guarantee,
        "coverage": config.coverage,
        "guards": [*_guards(config), *_memory_guards(config)],
        "monitors": [
            {
                "name": params.name,
                "settings": params.model_dump(mode="json", exclude={"name", "kind"}),
                **_in_words("monitors", str(params.model_dump()["kind"])),
            }
            for params in config.all_monitors
        ],
        "neighbours": config.explain.neighbours is not None,
        "known_rows": list(rows),
        "config": yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False),
    }


def known_rows(bundle: Path, config: Config, schema: InputSchema) -> list[Any]:
    """Read the first rows of a bundle's self-test, as a request holds them.

    No row is given if the config does not allow the bundle to keep reference rows: the rows are then made up. If the
    file cannot be read, no row is given either; the engine reads the same file next, and says what is wrong.
    """
    if not config.store_reference_rows:
        return []
    try:
        with safe_open(bundle / STATE, framework="pt") as tensors:
            count = min(MOST_ROWS, MOST_VALUES // max(1, prod(schema.shape)))
            return [as_sent(row, schema) for row in tensors.get_slice(KNOWN_ROWS)[:count]]
    except (OSError, SafetensorError):
        return []


def _guards(config: Config) -> list[dict[str, Any]]:
    return [
        {
            "name": guard.name,
            "action": guard.action,
            "share": guard.share,
            "target_error": guard.target_error,
            "visible": guard.visible,
            "optional": guard.optional,
            "remembers": False,
            "on_error": guard.on_error,
            **_in_words("detectors", str(guard.detector.model_dump()["kind"])),
        }
        for guard in config.guards
    ]


def _memory_guards(config: Config) -> list[dict[str, Any]]:
    return [
        {
            "name": guard.name,
            "action": guard.action,
            "share": None,
            "target_error": None,
            "visible": guard.visible,
            "optional": False,
            "remembers": True,
            "on_error": None,
            **_in_words("memory_guards", str(guard.model_dump()["kind"])),
        }
        for guard in config.memory_guards
    ]


def _in_words(group: Group, kind: str) -> Mapping[str, str]:
    """Give a plug-in's kind, what its class says it does, and what its author says it cannot see."""
    plugin = registered(group)[kind]
    paragraph = (inspect.getdoc(plugin) or "").split("\n\n", 1)[0].replace("\n", " ")
    sentence = SENTENCE_END.split(paragraph, 1)[0].replace("``", "")
    return {"kind": kind, "what": sentence, "blind_spots": getattr(plugin, "blind_spots", "")}
