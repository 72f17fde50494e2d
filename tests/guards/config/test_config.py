"""The config: what it takes, what it refuses and with which sentence, and what may change without a refit."""

import copy
import json
import math
import re
from typing import Any

import jsonschema
import pytest
import tiny_models

from guards import Action, Config, Mistake
from guards.config.config import differences, parse
from guards.config.refusals import PATTERNS


def sentences(**changes: Any) -> tuple[str, ...]:
    """Give the parser's sentences about the table's config with some sections replaced."""
    with pytest.raises(Mistake) as refused:
        parse(tiny_models.document("tabular", **changes))
    return refused.value.sentences


def guard(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "ood", "detector": {"kind": "mahalanobis"}, **changes}]


def test_defaults() -> None:
    """The smallest config has the defaults of the contract."""
    config = parse(
        {
            "name": "x",
            "model": {"builder": "m:build"},
            "input": {"kind": "tabular"},
            "reference": {"path": "train.csv"},
            "guards": guard(),
        }
    )
    assert (config.version, config.mode, config.guarantee) == ("1", "enforce", "marginal")
    assert (config.false_alarm_budget, config.coverage) == (0.01, 0.9)
    assert (config.model.task, config.model.device, config.model.precision) == ("classification", "auto", "float32")
    assert not config.model.compile
    reference = config.reference
    assert (reference.label, reference.calibration_fraction, reference.seed) == ("y", 0.5, 0)
    ood = config.guards[0]
    assert (ood.action, ood.share, ood.on_error, ood.visible) == ("flag", 1.0, "ignore", True)
    assert (ood.flag_action, ood.error_action) == (Action.FLAG, Action.ALLOW)
    server = config.server
    assert (server.max_batch_rows, server.max_queue_rows, server.max_rows_per_request) == (64, 1024, 1024)
    assert (server.max_body_bytes, server.timeout_seconds) == (16777216, 30)
    assert (config.explain.method, config.explain.baseline, config.explain.rejected) == (
        *("integrated_gradients", "neutral"),
        False,
    )
    assert not config.store_reference_rows


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"nam": "x"}, "nam: unknown key"),
        (
            {"prediction_sets": {"method": "normalised"}},
            "prediction_sets.method: normalised is no method of a classification: use least or aps or raps",
        ),
        (
            {"prediction_sets": {"by": "sex"}},
            (
                "prediction_sets.by: no groups monitor has the attribute 'sex': add a groups monitor, "
                "or use none or class or region"
            ),
        ),
        ({"prediction_sets": {"kind": "aps"}}, "prediction_sets.kind: unknown key"),
        (
            {"guards": guard(target_error=0.05)},
            "guards.0: target_error: the guard abstains: write `action: abstain`, and not flag",
        ),
        (
            {"guards": guard(target_error=0.05, action="abstain", share=2.0)},
            "guards.0: target_error: the guard has no share of the budget: leave `share` out",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "numeric", "maximum": math.nan}]}},
            "input.columns.0.maximum: Input should be a finite number",
        ),
        (
            {"explain": {"method": "saliency", "keep_seconds": math.inf}},
            "explain.keep_seconds: Input should be a finite number",
        ),
        (
            {"name": "Not Lower"},
            "name: 'Not Lower' must be only lower-case letters, digits and hyphens, such as credit-risk",
        ),
        ({"model": {"builder": "m:build", "feature": "body"}}, "model.feature: unknown key"),
        ({"model": {}}, "model: give either `builder` or `program`"),
        ({"model": {"builder": "m:b", "program": "m.pt2"}}, "model: give either `builder` or `program`"),
        (
            {"model": {"program": "m.pt2", "weights": "w.pt"}},
            "model: a program carries its own weights: leave `weights` out",
        ),
        (
            {"model": {"builder": "m:b", "task": "regression", "classes": ["a", "b"]}},
            "model: regression has no classes: leave `classes` out",
        ),
        (
            {"model": {"builder": "m:b", "task": "regression", "output": "probabilities"}},
            "model: a regression returns values: leave `output` out",
        ),
        ({"model": {"builder": "m:b", "classes": ["a"]}}, "model: `classes` needs at least two different labels"),
        ({"model": {"builder": "m:b", "classes": ["a", "a"]}}, "model: `classes` needs at least two different labels"),
        (
            {"model": {"builder": "m:b", "classes": [True, "b"]}},
            "model.classes.0: True is a boolean in YAML; put the label in quotes",
        ),
        (
            {"model": {"builder": "m:b", "classes": ["a", ""]}},
            "model.classes.1: the empty string stands for no label: give it a name",
        ),
        (
            {"model": {"builder": "m:b", "classes": ["a\0", "b"]}},
            "model.classes.0: the label 'a\\x00' holds a control character: leave it out",
        ),
        (
            {"model": {"builder": "m"}},
            "model.builder: 'm' must be a module, a colon and a function, such as package.module:build",
        ),
        ({"reference": {}}, "reference.path: missing"),
        ({"input": {"kind": "sound"}}, "input.kind: Input should be 'image', 'tabular' or 'tensor'"),
        (
            {"input": {"kind": "image", "shape": [28, 28]}},
            "input: an image's shape is [channels, height, width]",
        ),
        ({"input": {"kind": "image"}}, "input: input of kind image needs `shape`: the positive sizes of one row"),
        (
            {"input": {"kind": "tensor", "shape": [0]}},
            "input: input of kind tensor needs `shape`: the positive sizes of one row",
        ),
        (
            {"input": {"kind": "tensor", "shape": [2], "columns": [{"name": "a", "kind": "numeric"}]}},
            "input: input of kind tensor has a shape, not columns: leave `columns` out",
        ),
        (
            {"input": {"kind": "tabular", "shape": [2]}},
            "input: a tabular input has columns, not a shape: leave `shape` out",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "numeric"}] * 2}},
            "input: a column is listed twice",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "numeric", "categories": ["x"]}]}},
            "input.columns.0: a numeric column has no categories: leave them out, or make it categorical",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "categorical", "minimum": 0}]}},
            "input.columns.0: a categorical column has no minimum or maximum: leave them out, or make it numeric",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "numeric", "minimum": 2, "maximum": 1}]}},
            "input.columns.0: minimum 2 is above maximum 1",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "categorical", "categories": ["x", "x"]}]}},
            "input.columns.0: a category is listed twice",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "categories": ["x", "y"], "scale": 2}]}},
            "input.columns.0: a column has either categories, or bounds and a scale: leave out one of the two",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "kind": "categorical", "scale": 2}]}},
            "input.columns.0: a categorical column has no scale: leave it out, or make it numeric",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "scale": 0}]}},
            "input.columns.0: a scale of 0 would make every value 0: drop the column, or give another scale",
        ),
        (
            {"input": {"kind": "tabular", "columns": [{"name": "a", "drop": True, "minimum": 0}]}},
            "input.columns.0: a dropped column is never read: leave its other keys out, or leave out `drop`",
        ),
        (
            {"input": {"kind": "tabular", "rest": "drop"}},
            "input: `rest: drop` needs `columns`: list the model's inputs",
        ),
        (
            {"input": {"kind": "tensor", "shape": [2], "rest": "infer"}},
            "input: input of kind tensor has no columns: leave `rest` out",
        ),
        ({"reference": {"path": "a.csv", "missing": "NA"}}, "reference.missing: this must be a list: write the values"),
        (
            {"input": {"kind": "tabular", "columns": ["age"]}},
            "input.columns.0: this must be a mapping: write keys with",
        ),
        ({"reference": {"path": "a.csv", "label": ["y"]}}, "reference.label: this must be one text: write the text in"),
        ({"false_alarm_budget": 0}, "false_alarm_budget: Input should be greater than 0"),
        ({"false_alarm_budget": 1}, "false_alarm_budget: Input should be less than 1"),
        ({"coverage": 1.5}, "coverage: Input should be less than 1"),
        ({"guarantee": "sure"}, "guarantee: Input should be 'marginal' or 'pac'"),
        ({"guards": guard() * 2}, "guards: the name 'ood' is used twice"),
        (
            {"guards": guard(name="a b")},
            "guards.0.name: 'a b' must be only letters, digits, underscores and hyphens, such as input-quality",
        ),
        ({"guards": guard(share=0)}, "guards.0.share: Input should be greater than 0"),
        ({"guards": guard(share=float("inf"))}, "guards.0.share: Input should be a finite number"),
        ({"guards": guard(action="panic")}, "guards.0.action: Input should be 'flag', 'abstain' or 'reject'"),
        (
            {"guards": guard(detector={"kind": "mahalanobis", "shrinkag": 0.1})},
            "guards.0.detector.mahalanobis.shrinkag: unknown key",
        ),
        (
            {"guards": guard(detector={"kind": "mahalanobbis"})},
            (
                "guards.0.detector: 'mahalanobbis' is not known; there are 'ranges', 'image_quality', 'gaussian', "
                "'mahalanobis', 'knn', 'energy', 'fdbd', 'gen', 'confidence'"
            ),
        ),
        ({"guards": guard(detector={})}, "guards.0.detector: missing its `kind`"),
        (
            {"monitors": [{"name": "m", "kind": "binns"}]},
            "monitors.0: 'binns' is not known; there are 'groups', 'bins'",
        ),
        ({"monitors": [{"name": "m", "kind": "bins", "bins": 1}]}, "monitors.0.bins.bins: Input should be greater"),
        ({"monitors": [{"name": "m", "kind": "bins"}] * 2}, "monitors: the name 'm' is used twice"),
        (
            {"explain": {"method": "guess"}},
            "explain: method: 'guess' is not known; there are 'integrated_gradients'",
        ),
        (
            {"explain": {"methods": [{"method": "gess"}]}},
            "explain.methods.0: 'gess' is not known; there are 'integrated_gradients'",
        ),
        ({"explain": {"methods": [{"steps": 3}]}}, "explain.methods.0: missing its `method`"),
        (
            {"server": {"max_queue_rows": 10}},
            "server: max_queue_rows is below max_rows_per_request: such a request could never be queued",
        ),
        ({"server": {"timeout_seconds": 60}}, "server.timeout_seconds: Input should be less than or equal to 55"),
        (
            {"server": {"trusted_proxies": ["10.0.0.1/8"]}},
            "server.trusted_proxies.0: 10.0.0.1/8 has host bits set; write ",
        ),
        ({"server": {"trusted_proxies": ["proxy"]}}, "server.trusted_proxies.0: 'proxy' does not appear to be an IPv4"),
        ({"server": {"trusted_proxies": ["::/0"]}}, "server.trusted_proxies.0: ::/0 trusts everybody"),
        ({"version": "1/2"}, "version: '1/2' must be only letters, digits, dots, underscores and hyphens, such as 1.2"),
        ({"version": True}, "version: True is a boolean in YAML; put the label in quotes"),
    ],
)
def test_mistake_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    """A mistake is one sentence, led by its dotted place."""
    (said,) = sentences(**changes)
    assert said.startswith(sentence)


def test_every_mistake_is_said_at_once() -> None:
    """Several mistakes are as many sentences."""
    said = sentences(coverage=2, guards=guard(detector={"kind": "mahalanobis", "shrinkag": 1}, sharee=1))
    assert len(said) == 3
    assert "guards.0.sharee: unknown key" in said
    assert "guards.0.detector.mahalanobis.shrinkag: unknown key" in said


def test_middle_guard_is_named_by_its_index() -> None:
    """The place of a mistake counts guards from 0."""
    guards = [*guard(), *guard(name="two", detector={"kind": "mahalanobis", "shrinkag": 0.1})]
    assert sentences(guards=guards) == ("guards.1.detector.mahalanobis.shrinkag: unknown key",)


@pytest.mark.parametrize("document", [None, [], "a string", 3])
def test_config_that_is_no_mapping(document: object) -> None:
    """A document that is no mapping is refused in a sentence."""
    with pytest.raises(Mistake, match="a config is a mapping of keys"):
        parse(document)


def test_numbers_become_labels() -> None:
    """Integers among labels, categories and versions are read as their digits."""
    config = parse(tiny_models.document("tabular", version=2, model={"builder": "m:b", "classes": [0, 1]}))
    assert (config.version, config.model.classes) == ("2", ("0", "1"))


def test_missing_groups_parameters() -> None:
    """Missing or excess parameters of a groups monitor are refused with the reason."""
    base = {"name": "g", "kind": "groups", "attribute": "sex"}
    cases = {
        "monitors.0.groups.source: give either `column` or `request`": {"source": {}},
        "monitors.0.groups.source: `edges` are for a column": {"source": {"request": "a", "edges": [1]}},
        "monitors.0.groups.source: `edges` must be increasing numbers": {"source": {"column": "a", "edges": [2, 1]}},
        "monitors.0.groups: bands name their own levels: leave `levels` out": {
            "source": {"column": "a", "edges": [1]},
            "levels": ["x"],
        },
        "monitors.0.groups: groups that come with the request need their `levels` declared": {
            "source": {"request": "a"}
        },
        "monitors.0.groups.levels.1: the empty string stands for no label: give it a name": {
            "source": {"request": "a"},
            "levels": ["x", ""],
        },
        "monitors.0.groups: a level is listed twice": {"source": {"column": "a"}, "levels": ["x", "x"]},
    }
    for sentence, changes in cases.items():
        assert sentences(monitors=[{**base, **changes}]) == (sentence,)


def changed(path: str, value: Any) -> Config:
    """Parse the table's config with one key set, by its dotted place."""
    document = copy.deepcopy(tiny_models.document("tabular"))
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner: Any = document
    for key in keys:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[last] = value
    return parse(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mode", "shadow"),
        ("false_alarm_budget", 0.2),
        ("guarantee", "pac"),
        ("coverage", 0.5),
        ("guards.0.action", "reject"),
        ("guards.1.share", 7.0),
        ("guards.1.on_error", "reject"),
        ("guards.2.visible", False),
        ("model.device", "auto"),
        ("model.compile", True),
        ("explain", {"method": "integrated_gradients", "steps": 9}),
        ("server.max_batch_rows", 2),
        ("server.trusted_proxies", ["10.0.0.0/8", "::1"]),
    ],
)
def test_deploy_time_key_may_change(path: str, value: Any) -> None:
    """The keys that the contract names may change without a refit."""
    assert differences(parse(tiny_models.document("tabular")), changed(path, value)) == []


@pytest.mark.parametrize(
    ("path", "value", "keys"),
    [
        ("name", "other", ["name"]),
        ("version", "2", ["version"]),
        ("model.classes", ["ant", "bee", "dog"], ["model.classes.2"]),
        ("model.features", "body", ["model.features"]),
        ("model.precision", "bfloat16", ["model.precision"]),
        ("input.columns.0.minimum", 0.0, ["input.columns.0.minimum"]),
        ("guards.0.name", "other", ["guards.0.name"]),
        ("guards.1.detector.normalise", False, ["guards.1.detector.normalise"]),
        ("guards", [], [f"guards.{i}.{key}" for i in range(3) for key in ("detector.kind", "name")]),
        ("monitors.0.bins", 5, ["monitors.0.bins"]),
        ("reference.seed", 1, ["reference.seed"]),
        ("store_reference_rows", True, ["store_reference_rows"]),
    ],
)
def test_anything_else_needs_a_refit(path: str, value: Any, keys: list[str]) -> None:
    """Any other difference is named by its key."""
    found = differences(parse(tiny_models.document("tabular")), changed(path, value))
    assert set(keys) <= set(found)
    assert all(key.startswith(path.split(".", maxsplit=1)[0]) for key in found)


def test_config_survives_json() -> None:
    """The dump that a bundle keeps parses to an equal config, with the detectors' own parameters."""
    config = changed("guards.1.detector.normalise", False)
    again = Config.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.guards[1].detector.model_dump()["normalise"] is False


@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_json_schema_describes_the_config(kind: str) -> None:
    """The JSON Schema takes what the parser takes, and refuses an unknown key of a detector."""
    schema = Config.model_json_schema()
    document = tiny_models.document(kind)
    jsonschema.validate(document, schema)
    document["guards"][1]["detector"]["shrinkag"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_every_pattern_has_words() -> None:
    """A text that a pattern refuses is answered in words: every pattern of the config has words."""
    patterns = set(re.findall(r'"pattern": ("(?:[^"\\\\]|\\\\.)*")', json.dumps(Config.model_json_schema())))
    assert len(patterns) > 3
    assert {json.loads(pattern) for pattern in patterns} <= PATTERNS.keys()


def test_every_key_of_the_config_is_closed() -> None:
    """No object in the JSON Schema takes unknown keys."""
    definitions = Config.model_json_schema()["$defs"]
    objects = {name: d for name, d in definitions.items() if d.get("type") == "object"}
    assert objects
    assert [name for name, d in objects.items() if d.get("additionalProperties") is not False] == []


def test_every_key_of_the_config_is_described() -> None:
    """`guardhouse schema` says of each key what it means: beside the key, or at the section that is its value."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    objects = {"Config": schema, **{name: d for name, d in definitions.items() if d.get("type") == "object"}}
    bare = [
        f"{name}.{key}"
        for name, d in objects.items()
        for key, value in d["properties"].items()
        if "const" not in value  # the name of a kind or method
        and "description" not in value
        and "description" not in definitions.get(value.get("$ref", "").rpartition("/")[2], {})
    ]
    assert bare == []


def test_a_regression_has_no_sets_of_labels_and_no_wrong_labels() -> None:
    """What a regression cannot have is refused with what it can."""
    model = {"builder": "m:build", "task": "regression"}
    assert sentences(model=model, guards=[], prediction_sets={"method": "aps"}) == (
        "prediction_sets.method: aps is no method of a regression: use absolute or normalised",
    )
    assert sentences(model=model, guards=[], prediction_sets={"by": "class"}) == (
        "prediction_sets.by: a regression has no classes: use an attribute of a groups monitor",
    )
    assert sentences(model=model, guards=guard(target_error=0.1, action="abstain")) == (
        "guards.0.target_error: a regression has no wrong labels: leave target_error out",
    )


def test_sets_and_targets_need_a_refit() -> None:
    """How sets are made, and which error a guard promises, may not change at deploy time."""
    guards = guard(action="abstain", target_error=0.05)
    fitted = parse(tiny_models.document("tabular", guards=guards))
    for changes, key in (
        ({"guards": guards, "prediction_sets": {"method": "aps"}}, "prediction_sets.method"),
        ({"guards": guards, "prediction_sets": {"by": "class"}}, "prediction_sets.by"),
        ({"guards": guard(action="abstain", target_error=0.1)}, "guards.0.target_error"),
        ({"guards": guard(action="abstain")}, "guards.0.target_error"),
    ):
        assert differences(fitted, parse(tiny_models.document("tabular", **changes))) == [key]
