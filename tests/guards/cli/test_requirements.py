"""Requirements of a gate: what they may look like, and what they say of a document."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from guards.cli.requirements import judge, read_requirements, status_of
from guards.types import Mistake

Guardhouse = Callable[..., tuple[int, str, str]]
DOCUMENT: dict[str, Any] = {
    "rows": {"clean": 400},
    "accuracy": 0.95,
    "accuracy_interval": (0.92, 0.97),
    "r2": None,
    "r2_interval": None,
    "guards": {"a.b": {"false_alarm_rate": 0.01, "false_alarm_interval": [0.0, 0.03]}},
    "labels": {">50K": 3},
}


def verdict(text: str) -> str:
    return judge(read_requirements([text]), DOCUMENT)[0]["verdict"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy>=0.92", "holds"),
        ("accuracy > 0.92", "cannot tell"),
        ("accuracy>=0.93", "cannot tell"),
        ("accuracy>=0.96", "cannot tell"),
        ("accuracy>=0.975", "fails"),
        ("accuracy<0.9", "fails"),
        ("accuracy<=0.97", "holds"),
        ("guards.a.b.false_alarm_rate<=0.02", "cannot tell"),
        ("guards.a.b.false_alarm_rate<=0.03", "holds"),
        ("rows.clean>=400", "holds"),
        ("rows.clean>400", "fails"),
        ("labels.>50K>=3", "holds"),
        ("r2>=0.5", "cannot tell"),
    ],
)
def test_verdicts(text: str, said: str) -> None:
    """A requirement holds or fails if the whole interval is on one side of the bound; a count is exact."""
    assert verdict(text) == said


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=0.9", "accuracy==0.9", ">=0.9", "accuracy>=", "a>=nan", "a>=9%"]
)
def test_other_texts_are_refused(text: str) -> None:
    """A text that is no requirement is refused with the form of one."""
    with pytest.raises(Mistake, match=r"write a name, one of >=, <=, > and <, and a number"):
        read_requirements([text])


@pytest.mark.parametrize("text", ["acuracy>=0.9", "guards>=1", "accuracy_interval>=0"])
def test_unknown_places_are_refused_with_similar_ones(text: str) -> None:
    """A place without a figure is refused, and the sentence names figures that are there."""
    with pytest.raises(Mistake, match=r"has no figure .*the most similar are .*accuracy"):
        judge(read_requirements([text]), DOCUMENT)


def test_a_failure_counts_more_than_doubt() -> None:
    """The status is 1 if a requirement fails, 3 if none fails and of one nobody can tell, else 0."""
    holds, fails, unsure = "rows.clean>=1", "rows.clean>=500", "accuracy>=0.95"
    for texts, status in (
        ([], 0),
        ([holds], 0),
        ([holds, unsure], 3),
        ([unsure, fails, holds], 1),
    ):
        assert status_of(judge(read_requirements(texts), DOCUMENT)) == status


def test_evaluate_is_a_gate(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """`evaluate --require` ends with the status of its requirements, and a sentence for each that does not hold."""
    tiny_models.write(tmp_path, "tensor")
    tiny_models.fitted("tensor").bundle.save(tmp_path / "b")
    files = ["--clean", tmp_path / "test.npz", "--suspect", tmp_path / "suspect.npz"]

    def ask(*requirements: str) -> tuple[int, str]:
        options = [part for text in requirements for part in ("--require", text)]
        status, _, err = guardhouse("evaluate", tmp_path / "b", *files, *options)
        return status, err

    assert ask("guards.ood.auroc>=0.9", "rows.clean>=400") == (0, "")
    status, err = ask("guards.ood.auroc<0.5", "any.false_alarm_rate<=0.05")
    assert status == 1
    assert err.splitlines()[0].startswith("guards.ood.auroc<0.5 fails: the figure is ")
    status, err = ask("any.false_alarm_rate<=0.05")
    assert status == 3
    assert err.startswith("nobody can tell whether any.false_alarm_rate<=0.05 holds: the figure is ")
    assert ask("guards.odd.auroc>0.5")[0] == 2
    assert ask("nonsense")[0] == 2
