"""``guardhouse attack``: its document, its table, its gate, and its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from guards.attacks.campaign import BY_QUERIES, OF_WHITE_BOX, Attacked, key_of

Guardhouse = Callable[..., tuple[int, str, str]]
QUICK = ("--rows", "6", "--budget", "60", "--steps", "5", "--restarts", "1")


def printed(text: str) -> str:
    """Take the line breaks out that a narrow terminal puts in."""
    return " ".join(text.split())


@pytest.fixture
def attack(saved: Path, kind: str, tmp_path: Path, guardhouse: Guardhouse) -> Guardhouse:
    """Attack the tiny bundle of each kind with labelled rows."""
    config = tiny_models.write(tmp_path, kind)

    def call(*arguments: str) -> tuple[int, str, str]:
        return guardhouse("attack", saved, "--config", config, "--data", tmp_path / "test.npz", *QUICK, *arguments)

    return call


def test_every_attack_runs_by_default(attack: Guardhouse) -> None:
    """The document has the figures of every attack in every mode at every eps, each share with its interval."""
    status, out, err = attack("--eps", "0.1", "--eps", "0.4", "--json")
    assert status == 0, err
    document: Attacked = json.loads(out)
    found = {(name, mode) for name, modes in document["attacks"].items() for mode in modes}
    assert found == {*OF_WHITE_BOX, *BY_QUERIES}
    for name, mode in found:
        by_eps = document["attacks"][name][mode]
        assert list(by_eps) == ["eps_0.1", "eps_0.4"]
        for figures in by_eps.values():
            assert figures["success"] is not None
            assert figures["success_interval"] is not None
            low, high = figures["success_interval"]
            assert 0 <= low <= figures["success"] <= high <= 1
            assert (figures["sent"] is None) == (name in ("pgd", "pgd_rms"))
            assert figures["undetected"] is not None
            assert figures["passed"] is not None
            assert figures["undetected"] <= figures["passed"] <= figures["success"]
    assert document["rows"]["attacked"] == 6
    assert document["budget"] == 60


def test_the_table_names_attacks_and_limits(attack: Guardhouse) -> None:
    """People get a table, and under the table what the figures cannot tell."""
    status, out, err = attack("--attacks", "nes.plain", "--attacks", "pgd")
    assert status == 0, err
    for word in ("nes", "plain", "oblivious", "aware", "undetected", "one query", "no defence"):
        assert word in printed(out)
    assert "square" not in out


def test_a_run_is_repeated_by_its_seed(attack: Guardhouse) -> None:
    """The same seed gives the same document, and another seed attacks other rows."""
    one, two, other = (attack("--attacks", "square.plain", "--json", "--seed", seed)[1] for seed in ("1", "1", "2"))
    assert one == two != other


@pytest.fixture
def tensor_attack(tmp_path: Path, guardhouse: Guardhouse) -> Guardhouse:
    """Attack the tiny bundle of tensors."""
    config = tiny_models.write(tmp_path, "tensor")
    tiny_models.fitted("tensor").bundle.save(tmp_path / "b")

    def call(*arguments: str | Path, data: str = "test.npz") -> tuple[int, str, str]:
        return guardhouse("attack", tmp_path / "b", "--config", config, "--data", tmp_path / data, *QUICK, *arguments)

    return call


@pytest.mark.parametrize(
    ("requirement", "status"),
    [("<=1", 0), (">1", 1), ("<=0.5", 3)],
)
def test_it_is_a_gate(requirement: str, status: int, tensor_attack: Guardhouse) -> None:
    """With --require the exit status is 1 if a bound fails, and 3 if an interval crosses the bound."""
    place = "attacks.pgd.aware.eps_0.3.undetected"
    found = tensor_attack("--attacks", "pgd.aware", "--eps", "0.3", "--require", f"{place}{requirement}")
    assert found[0] == status, found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--attacks", "fgsm"), "--attacks fgsm: there is no such attack on this target; there are pgd.oblivious"),
        (("--eps", "0"), "--eps: write a number above 0"),
        (("--keys", "keys.txt"), "--keys, --client-header: they name accounts of a server; give its --url"),
        (("--require", "attacks.nes.plain.eps_9.success<=1"), "the document has no figure"),
        (("--url", "http://127.0.0.1:9", "--attacks", "pgd"), "--attacks pgd: there is no such attack on this target"),
        (("--url", "http://127.0.0.1:9", "--attacks", "nes.accounts"), "no such attack on this target"),
        (("--url", "http://127.0.0.1:9"), "--url: http://127.0.0.1:9 does not answer"),
        (("--url", "http://127.0.0.1:9", "--keys", "nowhere.txt"), "--keys nowhere.txt: it cannot be read"),
    ],
)
def test_mistakes_are_sentences(arguments: tuple[str, ...], said: str, tensor_attack: Guardhouse) -> None:
    """What cannot be done is refused with one sentence and status 2, before anything is attacked."""
    status, out, err = tensor_attack(*arguments)
    assert (status, out) == (2, "")
    assert said in printed(err)


def test_rows_without_labels_are_refused(tmp_path: Path, tensor_attack: Guardhouse) -> None:
    """An attack needs true labels, and at least one row that gets its own."""
    np.savez(tmp_path / "bare.npz", x=tiny_models.inputs("tensor", 5, 0).numpy())
    status, _, err = tensor_attack(data="bare.npz")
    assert (status, "it has no labels" in printed(err)) == (2, True), err
    x = tiny_models.inputs("tensor", 5, 0)
    wrong = (tiny_models.model("tensor")(x).logits.argmax(1) + 1) % 3
    np.savez(tmp_path / "wrong.npz", x=x.numpy(), y=wrong.numpy())
    status, _, err = tensor_attack(data="wrong.npz")
    assert (status, "none of the rows its true label" in printed(err)) == (2, True), err


def test_a_regression_is_refused(tmp_path: Path, guardhouse: Guardhouse) -> None:
    """Without labels no answer is wrong, so a regression cannot be attacked."""
    changes: dict[str, Any] = {
        "model": {"builder": "tiny_models:value_net", "device": "cpu", "task": "regression"},
        "guards": [{"name": "quality", "detector": {"kind": "ranges"}}],
        "monitors": [],
    }
    tiny_models.fitted("tabular", **changes).bundle.save(tmp_path / "b")
    status, _, err = guardhouse("attack", tmp_path / "b", "--data", tmp_path / "none.npz")
    assert (status, "regression, where no answer is wrong" in printed(err)) == (2, True), err


def test_keys_of_eps_have_no_rounding() -> None:
    """An eps is named as people write it."""
    assert [key_of(eps) for eps in (0.1, 8 / 255, 1.0)] == ["eps_0.1", "eps_0.0313725", "eps_1"]
