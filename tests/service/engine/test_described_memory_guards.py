"""What the fronts know of guards with memory."""

import pytest
from tiny_models import fitted

from service.engine.describe import described
from service.front.openapi.explanations import explain_parameters
from service.messages.served_model import ServedModel

GUARD = {"name": "queries", "kind": "query_similarity", "window": 16}


@pytest.fixture(scope="module")
def served() -> ServedModel:
    """Describe a model with a guard with memory that answers show."""
    return described(fitted("tensor", memory_guards=[GUARD | {"visible": True}]).bundle)


def test_a_visible_guard_with_memory_is_a_column_of_answers(served: ServedModel) -> None:
    """Answers have a place for the guard behind all others, and the fronts say who asks."""
    assert [guard.name for _, guard in served.visible_guards] == ["quality", "ood", "unsure", "queries"]
    assert served.layout.guards == 4
    assert served.remembers


def test_no_explanation_of_a_guard_with_memory_is_offered(served: ServedModel) -> None:
    """The document offers to explain the scores of guards that judge a row alone, and of no other guard."""
    offered = str(explain_parameters(served))
    assert "guard:ood" in offered
    assert "guard:queries" not in offered
    refused = fitted("tensor", memory_guards=[GUARD]).bundle
    assert [guard.name for _, guard in described(refused).visible_guards] == ["quality", "ood", "unsure"]
