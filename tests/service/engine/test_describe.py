"""The description of the served model that fronts get."""

from typing import Any

import orjson
import pytest
from example_folders import TABLE_CONFIG
from local_engine import served_config, served_model_of
from tiny_models import CLASSES, fitted, schema

from guards.config.config import parse
from guards.explanations.explain import methods
from service.messages.served_model import ServedModel
from service.messages.slots import Layout


@pytest.mark.parametrize("kind", ["tabular", "image", "tensor"])
def test_a_description_crosses_as_json(kind: str) -> None:
    """What a front reads from the engine's first frame equals what the engine described."""
    served = served_model_of(fitted(kind).bundle)
    assert ServedModel.model_validate(orjson.loads(orjson.dumps(served.model_dump(mode="json")))) == served


def test_guards_are_described_in_the_order_of_the_answers_columns() -> None:
    """A guard has its name, its causes, whether answers show it and whether a crash of it touches a row."""
    bundle = fitted(
        "tabular",
        guards=[
            {"name": "quality", "detector": {"kind": "ranges"}, "on_error": "reject"},
            {"name": "secret", "detector": {"kind": "mahalanobis"}, "visible": False},
            {"name": "doubt", "detector": {"kind": "confidence"}},
        ],
    ).bundle
    served = served_model_of(bundle)
    assert [guard.name for guard in served.guards] == list(bundle.pipeline().names)
    assert served.guards[0].causes == bundle.cause_names["quality"]
    assert [guard.acts_on_error for guard in served.guards] == [True, False, False]
    assert [(at, guard.name) for at, guard in served.visible_guards] == [(0, "quality"), (2, "doubt")]
    causes = {"quality": len(bundle.cause_names["quality"])}
    assert served.layout == Layout((4,), guards=3, classes=len(CLASSES), causes=causes)


def test_the_deployed_config_is_described() -> None:
    """The deployed config goes before the fitted config."""
    bundle = fitted("tensor").bundle
    deployed = bundle.config.model_copy(update={"mode": "shadow"})
    assert (served_model_of(bundle).shadow, served_model_of(bundle, deployed).shadow) == (False, True)


@pytest.mark.parametrize("kind", ["tabular", "tensor"])
def test_explainers_are_those_that_fit_the_rows(kind: str) -> None:
    """The methods are listed with their parameters as explanations have them; `allowed` also lists the unfit ones."""
    bundle = fitted(kind).bundle
    explain = served_model_of(bundle).explain
    assert [each.model_dump() for each in explain.explainers] == methods(bundle.config, bundle.schema)
    assert {each.method for each in explain.explainers} <= {*explain.allowed}
    assert [each.method for each in explain.explainers if each.default] == [explain.method]


def test_groups_of_requests_keep_the_configs_order() -> None:
    """An attribute is named if its values come with the request, by the name that the request gives it."""

    def monitor(name: str, source: Any) -> dict[str, Any]:
        return {"name": name, "kind": "groups", "attribute": name, "source": source, "levels": ["a", "b"]}

    monitors = [
        monitor("region", {"request": "where"}),
        monitor("job", {"column": "colour"}),
        monitor("branch", {"request": "branch"}),
        {"name": "streams", "kind": "bins"},
    ]
    config = parse(TABLE_CONFIG | {"input": {"kind": "tabular"}, "guards": [], "monitors": monitors})
    assert served_config(config, schema("tabular"), CLASSES).groups == ("where", "branch")
