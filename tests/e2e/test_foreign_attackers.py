"""foolbox and ART attack models that they do not know over HTTP, beside honest clients: what the server notices.

`make test-attackers PYTEST_ARGS=-rP` prints the figures. The bounds here leave room for chance.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import attacked_models
import foreign_attacks
import honest_traffic
import numpy as np
import pytest
import yaml
from attacked_models import Attacked
from foreign_attacks import Attack, Task
from fresh_client import FRESH
from gateways import GUARDHOUSE_SERVE, Gateway, fit_all

ROWS, BUDGET = 24, 500
BOUNDS: dict[str, dict[str, float]] = {"mnist": {"eps": 0.2, "rms": 0.15}, "adult": {"eps": 0.5, "rms": 0.4}}
"""How far attackers go: in brightness from 0 to 1, or in standard deviations of each column."""
ATTACKS = {
    "mnist": ["art.square", "art.hop_skip_jump", "art.boundary", "foolbox.hop_skip_jump", "foolbox.boundary"],
    "adult": ["art.zoo", "art.hop_skip_jump", "art.boundary", "foolbox.hop_skip_jump", "foolbox.boundary"],
}
ADAPTING = [name for name in ATTACKS["mnist"] if name.startswith("art.")]
"""The attacks whose source can be told to ask farther apart."""
CLIENTS, QUERIES, IN_ONE = 24, 1000, 20
LONG = 100

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> str:
    """Give the Python that has foolbox and ART."""
    path = os.environ.get("GUARDHOUSE_ATTACKERS")
    if path is None:
        pytest.skip("GUARDHOUSE_ATTACKERS names no Python that has foolbox and ART: make test-attackers")
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Attacked]:
    """Train and fit a model when the first test asks for it."""
    folder, known = tmp_path_factory.mktemp("foreign"), dict[str, Attacked]()

    def fit(name: str) -> Attacked:
        if name not in known:
            known[name] = attacked_models.write(name, folder / name)
            fit_all({known[name].config: folder / name / "bundle"})
        return known[name]

    return fit


@contextmanager
def serving(attacked: Attacked, **guard: Any) -> Iterator[Gateway]:
    """Serve a model by `guardhouse serve`, with a guard that is changed so."""
    document = yaml.safe_load(attacked.config.read_text())
    document["memory_guards"][0] |= guard
    config = attacked.config.with_name("-".join(["served", *guard]) + ".yaml")
    config.write_text(yaml.safe_dump(document))
    folder = attacked.config.parent
    gateway = Gateway(folder / "bundle", config, folder / "logs", program=GUARDHOUSE_SERVE).wait_ready()
    gateway.expected.append("look like an attack")
    try:
        yield gateway
    finally:
        gateway.stop()


def attacked_by(
    python: str, gateway: Gateway, attacked: Attacked, name: str, mode: str, attacks: list[str], **more: Any
) -> dict[str, list[Attack]]:
    """Run attacks, print what they achieved, and give them by name."""
    folder = attacked.config.parent / mode
    task = Task(attacks, mode, **{"rows": ROWS, "budget": BUDGET, **BOUNDS[name], **more})
    found = foreign_attacks.attack(python, gateway, attacked, folder, task)
    print(f"\n{name}: {task}\n{foreign_attacks.table(found)}")  # noqa: T201 - the figures are wanted
    return {each: [one for one in found if one.name == each] for each in attacks}


@pytest.mark.parametrize("name", ["mnist", "adult"])
def test_attacks_as_published_are_flagged_soon(python: str, fitted: Callable[[str], Attacked], name: str) -> None:
    """Most attacks of both libraries are flagged within 20 queries, if they ask so many; all long ones are flagged."""
    attacked = fitted(name)
    with serving(attacked) as gateway:
        found = attacked_by(python, gateway, attacked, name, "plain", ATTACKS[name])
    for attack, all_of_it in found.items():
        assert all(one.first_flag is not None for one in all_of_it if len(one.flagged) >= LONG), attack
        assert foreign_attacks.summary(all_of_it)["flagged soon"] >= 0.75, attack
    assert foreign_attacks.summary([one for each in found.values() for one in each])["undetected"] <= 0.35


@pytest.mark.parametrize("name", ["mnist", "adult"])
def test_attackers_who_see_refusals_pass_seldom(python: str, fitted: Callable[[str], Attacked], name: str) -> None:
    """A visible refusal lets attackers ask farther apart; few get a wrong label through before they are refused."""
    attacked, attacks = fitted(name), [each for each in ATTACKS[name] if each in ADAPTING]
    with serving(attacked, visible=True, action="reject") as gateway:
        found = attacked_by(python, gateway, attacked, name, "adaptive", attacks)
    everything = [one for each in found.values() for one in each]
    assert sum(one.refused for one in everything) > 0
    assert foreign_attacks.summary(everything)["undetected"] <= 0.35


@pytest.mark.parametrize(("mode", "visible"), [("hidden", False), ("resting", True)])
def test_attackers_who_ask_other_rows_between_are_flagged(
    python: str, fitted: Callable[[str], Attacked], mode: str, visible: bool
) -> None:
    """Two unrelated rows before each query, or three after each refusal, hide no long attack, except Square's."""
    attacked = fitted("mnist")
    with serving(attacked, visible=visible, action="reject" if visible else "flag") as gateway:
        found = attacked_by(python, gateway, attacked, "mnist", mode, ATTACKS["mnist"], rows=12, budget=300)
    everything = [one for each in found.values() for one in each]
    assert all(one.others > 0 for one in everything if len(one.flagged) >= LONG)
    del found["art.square"]  # its queries lie far apart: a limit that we state
    assert all(foreign_attacks.summary(each)["flagged"] == 1 for each in found.values())


def ask(gateway: Gateway, rows: Any, client: str | None) -> list[dict[str, Any]]:
    """Predict rows in one request as a client that a header names; None sends no header."""
    headers = {} if client is None else {"X-Client": client}
    url = f"{gateway.url}{gateway.predict_path}"
    answer = FRESH.post(url, json={"instances": rows.tolist()}, headers=headers)
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def test_honest_clients_with_near_duplicates_are_hardly_ever_flagged(fitted: Callable[[str], Attacked]) -> None:
    """24 clients of six kinds retry, save, shift and film pictures, 24,000 rows: at most one in 1,000 is flagged."""
    attacked = fitted("mnist")
    kinds = list(honest_traffic.KINDS)

    def client(number: int) -> list[str]:
        rows = honest_traffic.queries(kinds[number % len(kinds)], attacked.numbers, QUERIES, number)
        parts = [rows[start : start + IN_ONE] for start in range(0, QUERIES, IN_ONE)]
        return [each["id"] for part in parts for each in ask(gateway, part, f"honest {number}")]

    with serving(attacked) as gateway:
        with ThreadPoolExecutor(4) as pool:
            asked = list(pool.map(client, range(CLIENTS)))
        gateway.metrics()  # the rows are stored now
        found = foreign_attacks.flagged_ids(gateway)
    flagged = np.array([[name in found for name in names] for names in asked])
    for place, kind in enumerate(kinds):
        part = flagged[place :: len(kinds)]
        alarms = int(part[:, 0].sum() + (part[:, 1:] & ~part[:, :-1]).sum())
        print(f"{kind}: {part.size} rows, {part.sum()} flagged, {alarms} alarms")  # noqa: T201 - the figures are wanted
    assert flagged.mean() <= 0.001


def test_two_clients_share_batches_and_nothing_else(fitted: Callable[[str], Attacked]) -> None:
    """With `blur`, an attacker's probabilities become coarse, and a client in the same batches keeps its own.

    Under one name they are one client: then the honest rows are flagged, too.
    """
    attacked = fitted("mnist")
    honest, probe = attacked.numbers[:200], attacked.numbers[500]
    noise = np.random.default_rng(1).normal(0, 0.05, (200, *probe.shape))
    near = (probe + noise).clip(0, 1).round(6)

    def turns(gateway: Gateway, first: str | None, second: str | None) -> tuple[list[Any], list[Any]]:
        with ThreadPoolExecutor(2) as pool:
            both = [
                (pool.submit(ask, gateway, one[None], first), pool.submit(ask, gateway, other[None], second))
                for one, other in zip(honest, near, strict=True)
            ]
            return [one.result()[0] for one, _ in both], [other.result()[0] for _, other in both]

    with serving(attacked, on_evidence="blur") as gateway:
        alone = [answer for part in np.split(honest, 10) for answer in ask(gateway, part, "alone")]
        answers, attacks = turns(gateway, "honest", "attacker")
        together, _ = turns(gateway, None, None)
        gateway.metrics()
        found = foreign_attacks.flagged_ids(gateway)
    for before, after in zip(alone, answers, strict=True):
        assert after["probabilities"] == pytest.approx(before["probabilities"], abs=1e-5)
        assert (after["label"], after["action"]) == (before["label"], before["action"])
        assert after["id"] not in found
    share = np.mean([each["id"] in found for each in attacks])
    shared = np.mean([each["id"] in found for each in together])
    coarse = [each for each in attacks if len({round(value, 5) for value in each["probabilities"].values()}) == 2]
    print(f"attacker: {share:.3f} of 200 flagged, {len(coarse)} coarse; honest under one address: {shared:.3f} flagged")  # noqa: T201
    assert share > 0.85
    assert len(coarse) >= share * 200 - 1
