"""Lets foolbox and ART attack a server, and compares what the attackers got with what the server wrote down."""

import json
import secrets
import sqlite3
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from attacked_models import Attacked
from fresh_client import FRESH
from gateways import ROOT, Gateway

__all__ = ["Attack", "Task", "attack", "flagged_ids", "summary", "table"]

SOON = 20


@dataclass(frozen=True)
class Attack:
    """What one attack on one row did: ``flagged`` (n,) says which of its n new queries the guard with memory flagged.

    A new query is none of the ``repeats`` exact repeats, which tell nobody anything. ``success`` is the number, from 1,
    of the first query with a wrong label within the bound, ``passed`` says whether any such query was not flagged.
    ``others`` are the unrelated rows that the attacker sent besides.
    """

    name: str
    mode: str
    flagged: list[bool]
    success: int | None
    passed: bool
    repeats: int
    refused: int
    others: int
    stopped: str

    @property
    def first_flag(self) -> int | None:
        """The number of the first query that was flagged, from 1."""
        return self.flagged.index(True) + 1 if any(self.flagged) else None

    @property
    def undetected(self) -> bool:
        """Whether the attack succeeded before any of its queries was flagged."""
        return self.success is not None and not any(self.flagged[: self.success])


@dataclass(frozen=True)
class Task:
    """What attackers are to do: which attacks in which mode, on how many rows, with how many queries for each row.

    ``eps`` bounds the largest change, and ``rms`` the root mean square of an attack whose source measures lengths.
    """

    attacks: list[str]
    mode: str
    rows: int
    budget: int
    eps: float
    rms: float


def attack(python: str, gateway: Gateway, attacked: Attacked, folder: Path, task: Task) -> list[Attack]:
    """Attack rows that the server answers rightly, each under a name of its own; ``python`` has the libraries."""
    folder.mkdir(parents=True, exist_ok=True)
    url, run = f"{gateway.url}{gateway.predict_path}", secrets.token_hex(3)
    places = _right(url, attacked, task.rows)
    other = [next(each for each in places if attacked.labels[each] != attacked.labels[place]) for place in places]
    starts = [places.index(each) for each in other]
    x = attacked.numbers[places]
    if attacked.columns:
        starts = _starts_of_tables(url, attacked, places)
        pool = attacked.numbers
        low, high = float(pool.min()), float(pool.max())
    else:
        pool, low, high = x, 0.0, 1.0
    np.savez(folder / "arrays.npz", x=x, other=pool, low=low, high=high)
    others = [attacked.rows[place] for place in range(len(attacked.rows) - 600, len(attacked.rows))]
    job = {
        "url": url, "header": "X-Client", "classes": attacked.classes, "columns": attacked.columns, "run": run,
        "bodies": [attacked.rows[place] for place in places], "labels": [attacked.labels[place] for place in places],
        "arrays": str(folder / "arrays.npz"), "others": others, "starts": starts, **asdict(task),
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    command = [python, ROOT / "tests" / "support" / "http_attackers.py", folder / "job.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    gateway.metrics()  # the rows are stored now
    flagged = flagged_ids(gateway)
    return [_of(each, flagged) for each in found]


def _of(found: dict[str, Any], flagged: set[str]) -> Attack:
    new = [name for name, repeat in zip(found["ids"], found["repeats"], strict=True) if not repeat]
    succeeded = [found["ids"][query - 1] for query in found["succeeded"]]
    return Attack(
        name=found["attack"],
        mode=found["mode"],
        flagged=[name in flagged for name in new],
        success=next((new.index(name) + 1 for name in succeeded if name in new), None),
        passed=any(name not in flagged for name in succeeded),
        repeats=sum(found["repeats"]),
        refused=found["refused"],
        others=found["others"],
        stopped=found["stopped"],
    )


def flagged_ids(gateway: Gateway) -> set[str]:
    """Read from the record of decisions which rows the guard with memory flagged."""
    with sqlite3.connect(f"file:{gateway.state / 'guardhouse.db'}?mode=ro", uri=True) as database:
        found = database.execute("SELECT id, guards FROM decisions").fetchall()
    return {name for name, guards in found if "queries" in json.loads(guards)}


def _labels(url: str, rows: list[Any], client: str) -> list[str | None]:
    body = {"instances": rows}
    answer = FRESH.post(url, json=body, headers={"X-Client": client}, timeout=120)
    assert answer.status_code == 200, answer.text
    return [each["label"] for each in answer.json()["predictions"]]


def _right(url: str, attacked: Attacked, count: int) -> list[int]:
    """Give the places of the first rows that the server answers rightly, of all classes in turns."""
    most = min(len(attacked.rows) - 600, 20 * count)
    found: list[int] = []
    for start in range(0, most, 100):
        labels = _labels(url, attacked.rows[start : start + 100], f"look {start}")
        found += [start + place for place, label in enumerate(labels) if label == attacked.labels[start + place]]
    turns = {name: [place for place in found if attacked.labels[place] == name] for name in attacked.classes}
    mixed = [turns[name][turn] for turn in range(count) for name in attacked.classes if turn < len(turns[name])]
    return mixed[:count]


def _starts_of_tables(url: str, attacked: Attacked, places: list[int]) -> list[int]:
    """Find for each row the numbers of another row with which it gets another class."""
    starts = []
    for place in places:
        row = attacked.rows[place]
        order = np.random.default_rng(place).permutation(len(attacked.rows))[:400].tolist()
        changed = [{**row, **{name: attacked.rows[other][name] for name, _, _ in attacked.columns}} for other in order]
        labels = _labels(url, changed, f"start {place}")
        wrong = [other for other, label in zip(order, labels, strict=True) if label != attacked.labels[place]]
        starts.append(wrong[0] if wrong else order[0])
    return starts


def summary(attacks: list[Attack]) -> dict[str, float]:
    """Sum up attacks of one name and mode; a share is of the attacks, "flagged soon" of those with 20 queries."""
    long = [each for each in attacks if len(each.flagged) >= SOON]
    firsts = [each.first_flag or np.inf for each in attacks]
    return {
        "attacks": len(attacks),
        "asked 20": len(long),
        "flagged soon": float(np.mean([(each.first_flag or np.inf) <= SOON for each in long])) if long else np.nan,
        "first flag": float(np.median(firsts)),
        "flagged": float(np.mean([each.first_flag is not None for each in attacks])),
        "success": float(np.mean([each.success is not None for each in attacks])),
        "undetected": float(np.mean([each.undetected for each in attacks])),
        "passed": float(np.mean([each.passed for each in attacks])),
        "queries": float(np.mean([len(each.flagged) for each in attacks])),
        "repeats": float(np.mean([each.repeats for each in attacks])),
        "others": float(np.mean([each.others for each in attacks])),
    }


def table(attacks: list[Attack]) -> str:
    """Write the figures of attacks as a table."""
    groups: dict[tuple[str, str], list[Attack]] = {}
    for each in attacks:
        groups.setdefault((each.name, each.mode), []).append(each)
    lines = []
    for (name, mode), members in groups.items():
        figures = summary(members)
        if not lines:
            lines = ["| attack | mode | " + " | ".join(figures) + " |", "| --- | --- |" + " ---: |" * len(figures)]
        lines.append(f"| {name} | {mode} | " + " | ".join(f"{value:.4g}" for value in figures.values()) + " |")
    return "\n".join(lines)
