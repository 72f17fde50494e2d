"""Attacks a server over HTTP with foolbox and ART, in an environment of their own, without the server's code.

Argument: a JSON file. ``url`` takes predictions, and ``header`` names the client. ``bodies`` are the attacked rows as
JSON has them, with ``labels``; ``arrays`` is a file with the numbers ``x`` (n, ...) of these rows that the attacker
changes, their bounds ``low`` and ``high``, and ``other`` numbers, of which ``starts`` names those of another class
for each row. ``columns`` says how numbers become JSON, and ``others`` are rows that hide queries. ``attacks``,
``mode``, ``budget``, ``eps`` and ``rms`` say what to do. Prints what each attack did as JSON.
"""

import http.client
import json
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import numpy.typing as npt
from art.attacks.evasion import BoundaryAttack, HopSkipJump, SquareAttack, ZooAttack
from art.estimators.classification import BlackBoxClassifier, BlackBoxClassifierNeuralNetwork

HIDING = 2
"""With the mode ``hidden``, so many unrelated rows come before each query."""
RESTING, RESTS = 3, 10
"""With the mode ``resting``, so many unrelated rows follow a refusal, then the same row again; and so often at most."""
WIDER, NARROWER, WIDEST = 1.5, 0.9, 50.0
"""By how much an adaptive attacker asks farther apart after a refusal, and less after an answer; and at most."""
MOST_ROWS = 64
Rows = npt.NDArray[Any]


class Spent(Exception):  # noqa: N818 - the budget is no error
    """The attack has asked as often as it may."""


class Victim:
    """One row at a server, asked by one client: counts queries, and notes which succeed."""

    def __init__(self, job: dict[str, Any], client: str, place: int, norm: str) -> None:
        self.job, self.client, self.norm = job, client, norm
        self.row, self.label = job["bodies"][place], job["labels"][place]
        self.x, self.bound = job["x"][place], job["eps"] if norm == "inf" else job["rms"]
        self.ids: list[str] = []
        self.succeeded: list[int] = []
        self.repeats: list[bool] = []
        self.known: set[bytes] = set()
        self.refused = 0
        self.widening, self.others = 1.0, 0
        self.adapts, self.hides, self.rests = (job["mode"] == mode for mode in ("adaptive", "hidden", "resting"))

    def __call__(self, x: Rows) -> Rows:
        """Give probabilities (n, k) of rows (n, ...); of a refused row, those of a row whose attack failed."""
        x = np.asarray(x, dtype=np.float64).reshape(-1, *self.x.shape)
        found = [self.ask(x[start : start + MOST_ROWS]) for start in range(0, len(x), MOST_ROWS)]
        return np.concatenate(found).astype(np.float32)

    def ask(self, x: Rows) -> Rows:
        left = self.job["budget"] - len(self.ids)
        if left <= 0:
            raise Spent
        asked, before = x[:left], HIDING if self.hides else 0
        bodies = [body for row in asked for body in (*self.unrelated(before), self.as_json(row))]
        answers = self.job["server"].predict(self.client, bodies)[before :: before + 1]
        found = [self.learn(row, answer) for row, answer in zip(asked, answers, strict=True)]
        if len(asked) < len(x):
            raise Spent
        return np.stack(found)

    def learn(self, row: Rows, answer: dict[str, Any]) -> Rows:
        """Note an answer; give the probabilities (k,)."""
        self.note(row, answer)
        if answer["label"] is None and self.rests:
            for _ in range(RESTS):
                *_, answer = self.job["server"].predict(self.client, [*self.unrelated(RESTING), self.as_json(row)])
                self.note(row, answer)
                if answer["label"] is not None:
                    break
        classes = self.job["classes"]
        if answer["label"] is None:
            self.widening = min(self.widening * WIDER, WIDEST) if self.adapts else 1.0
            return np.array([float(name == self.label) for name in classes])
        self.widening = max(self.widening * NARROWER, 1.0)
        return np.array([answer["probabilities"].get(name, 0.0) for name in classes])

    def note(self, row: Rows, answer: dict[str, Any]) -> None:
        code = row.tobytes()
        self.repeats.append(code in self.known)
        self.known.add(code)
        self.ids.append(answer["id"])
        self.refused += answer["label"] is None
        if answer["label"] not in (None, self.label) and self.far(row) <= self.bound + 1e-6:
            self.succeeded.append(len(self.ids))

    def unrelated(self, count: int) -> list[Any]:
        """Give the next rows of other people."""
        pool = self.job["others"]
        self.others += count
        return [pool[each % len(pool)] for each in range(self.others - count, self.others)]

    def far(self, row: Rows) -> float:
        change = row - self.x
        return float(np.abs(change).max()) if self.norm == "inf" else float(np.sqrt((change**2).mean()))

    def as_json(self, row: Rows) -> Any:
        if not self.job["columns"]:
            return row.tolist()
        numbers = {
            name: centre + scale * float(value)
            for (name, centre, scale), value in zip(self.job["columns"], row, strict=True)
        }
        return {**self.row, **numbers}


class Server:
    """A connection to the server."""

    def __init__(self, url: str, header: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.connection, self.path, self.header = http.client.HTTPConnection(parts.netloc), parts.path, header

    def predict(self, client: str, instances: Sequence[Any]) -> list[dict[str, Any]]:
        body = json.dumps({"instances": instances})
        headers = {"Content-Type": "application/json", self.header: client}
        self.connection.request("POST", self.path, body, headers)
        reply = self.connection.getresponse()
        document = json.loads(reply.read())
        if reply.status != 200:
            raise RuntimeError(f"{reply.status}: {document}")
        return document["predictions"]


class WideHopSkipJump(HopSkipJump):
    """Asks farther apart while queries are refused, as OARS tells attackers to."""

    def _compute_delta(self, *arguments: Any, **named: Any) -> Any:
        return super()._compute_delta(*arguments, **named) * self.estimator._predict_fn.widening

    def _binary_search(self, *arguments: Any, **named: Any) -> Any:
        named["threshold"] = (named.get("threshold") or self.theta) * 20 * self.estimator._predict_fn.widening
        return super()._binary_search(*arguments, **named)


class WideSquare(SquareAttack):
    """Changes larger squares while queries are refused."""

    def _get_percentage_of_elements(self, i_iter: int) -> Any:
        return min(0.8, super()._get_percentage_of_elements(i_iter) * self.estimator._predict_fn.widening)


class WideBoundary(BoundaryAttack):
    """Takes larger steps around the boundary while queries are refused."""

    def _orthogonal_perturb(self, delta: float, current_sample: Rows, original_sample: Rows) -> Any:
        wide = min(delta * self.estimator._predict_fn.widening, 1.0)
        return super()._orthogonal_perturb(wide, current_sample, original_sample)


def art_model(victim: Victim, job: dict[str, Any]) -> Any:
    low, high = job["low"], job["high"]
    kind = BlackBoxClassifier if job["columns"] else BlackBoxClassifierNeuralNetwork
    return kind(victim, victim.x.shape, len(job["classes"]), clip_values=(low, high))


def with_art(attack: str, victim: Victim, job: dict[str, Any], start: Rows) -> None:
    """Run an attack of ART on one row."""
    model, adapts = art_model(victim, job), victim.adapts
    x, y = victim.x[None].astype(np.float32), np.array([job["classes"].index(victim.label)])
    starting = {"x_adv_init": start[None].astype(np.float32)}
    if attack == "square":
        kind = WideSquare if adapts else SquareAttack
        kind(model, eps=job["eps"], max_iter=job["budget"], nb_restarts=20, verbose=False).generate(x, y)
    elif attack == "hop_skip_jump":
        kind = WideHopSkipJump if adapts else HopSkipJump
        kind(model, norm="inf", max_iter=50, init_eval=30, verbose=False).generate(x, y, **starting)
    elif attack == "boundary":
        kind = WideBoundary if adapts else BoundaryAttack
        wide = {"delta": 0.1, "epsilon": 0.1}
        kind(model, targeted=False, max_iter=1000, verbose=False, **wide).generate(x, y, **starting)
    else:
        options = {"learning_rate": 0.1, "max_iter": 200, "binary_search_steps": 5, "initial_const": 1.0}
        ZooAttack(model, nb_parallel=5, variable_h=0.2, abort_early=False, verbose=False, **options).generate(x, y)


def with_foolbox(attack: str, victim: Victim, job: dict[str, Any], start: Rows) -> None:
    """Run an attack of foolbox on one row."""
    model = foolbox.models.NumPyModel(victim, bounds=(job["low"], job["high"]))
    attacks = {
        "hop_skip_jump": foolbox.attacks.HopSkipJumpAttack(steps=50, constraint="linf", initial_gradient_eval_steps=30),
        "boundary": foolbox.attacks.BoundaryAttack(steps=5000, spherical_step=0.1, source_step=0.1),
    }
    x, y = victim.x[None].astype(np.float32), np.array([job["classes"].index(victim.label)])
    attacks[attack](
        model, x, foolbox.criteria.Misclassification(y), epsilons=None, starting_points=start[None].astype(np.float32)
    )


def main(file: str) -> None:
    job = json.loads(Path(file).read_text())
    arrays = np.load(job["arrays"])
    job |= {"x": arrays["x"], "other": arrays["other"], "low": float(arrays["low"]), "high": float(arrays["high"])}
    job["server"] = Server(job["url"], job["header"])
    done = []
    for name in job["attacks"]:
        library, attack = name.split(".")
        for place in range(len(job["x"])):
            np.random.seed(place)  # noqa: NPY002 - both libraries draw from it
            norm = "rms" if attack in ("boundary", "zoo") else "inf"
            victim = Victim(job, f"{job['run']} {name} {job['mode']} {place}", place, norm)
            run = with_art if library == "art" else with_foolbox
            stopped = "ended"
            try:
                run(attack, victim, job, job["other"][job["starts"][place]])
            except Spent:
                stopped = "spent"
            except (AssertionError, ValueError) as fault:  # an attack that gives up, as foolbox does without a start
                stopped = f"{type(fault).__name__}: {fault}"
            done.append(
                {
                    "others": victim.others,
                    "attack": name,
                    "mode": job["mode"],
                    "ids": victim.ids,
                    "succeeded": victim.succeeded,
                    "refused": victim.refused,
                    "repeats": victim.repeats,
                    "stopped": stopped,
                }
            )
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1])
