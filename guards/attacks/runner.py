"""Runs attacks by queries on many rows in lock-step, and counts what each attack asked and achieved."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Literal

import numpy as np

from guards.attacks.boundary import Boundary
from guards.attacks.hop_skip_jump import HopSkipJump
from guards.attacks.nes import Nes
from guards.attacks.query_attack import AttackedRow, Queries, QueryAttack, Spacing, lengths
from guards.attacks.space import Rows, Space
from guards.attacks.square import Square
from guards.attacks.target import Answers, Client, Floats, Target
from guards.attacks.wrong_side import is_wrong

__all__ = ["ACCOUNTS", "ATTACKS", "MODES", "UNRELATED", "Mode", "Trace", "run"]

ATTACKS: dict[str, QueryAttack] = {
    "nes": Nes(), "square": Square(), "boundary": Boundary(), "hop_skip_jump": HopSkipJump()
}  # fmt: skip
Mode = Literal["plain", "adaptive", "accounts", "adaptive_accounts", "hidden"]
MODES: tuple[Mode, ...] = ("plain", "adaptive", "accounts", "adaptive_accounts", "hidden")
ACCOUNTS = 10
"""How many accounts take turns in the modes with accounts."""
UNRELATED = 2
"""How many unrelated rows a hidden attack sends before each query."""
TOLERANCE = 1e-6
"""By so much, relatively, a change may be longer than eps: rows are float32."""


@dataclass(slots=True)
class Trace:
    """What an attack on one row did: how many rows it sent, and at which row, counted from 1, things happened.

    ``first_flag`` is None if no query was flagged. ``successes`` has the first query with a wrong label within each
    eps; an eps that was not reached is absent. ``found`` has the row of that query, and ``passed`` says whether this
    query itself was not flagged.
    """

    queries: int = 0
    first_flag: int | None = None
    successes: dict[float, int] = field(default_factory=dict)
    passed: dict[float, bool] = field(default_factory=dict)
    found: dict[float, Rows] = field(default_factory=dict)

    def undetected(self, eps: float) -> bool:
        """Say whether the attack succeeded within ``eps`` before any of its queries was flagged."""
        at = self.successes.get(eps)
        return at is not None and (self.first_flag is None or at < self.first_flag)


@dataclass(slots=True)
class _Running:
    """An attack on one row, and the changes (m, d) that it wants to ask next; empty if it has ended.

    ``others`` are the rows among which the attack hides its queries; None if it does not hide.
    """

    name: str
    row: Rows
    attacked: AttackedRow
    attack: Queries
    epses: Sequence[float]
    trace: Trace
    wanted: Floats
    others: Iterator[Rows] | None = None

    @property
    def each(self) -> int:
        """How many rows are sent for one query."""
        return 1 if self.others is None else 1 + UNRELATED

    @property
    def left(self) -> int:
        """How many queries may still be asked."""
        return (self.attacked.budget - self.trace.queries) // self.each

    def sent(self, rows: Rows) -> Rows:
        """Give the rows that are sent to ask ``rows``: each after some unrelated rows."""
        if self.others is None:
            return rows
        return np.stack([row for asked in rows for row in (*islice(self.others, UNRELATED), asked)])

    def send(self, answers: Answers) -> None:
        try:
            self.wanted = self.attack.send(answers)
        except StopIteration:
            self.wanted = self.wanted[:0]


def run(  # noqa: PLR0913 - what is asked of an attack
    name: str,
    mode: Mode,
    target: Target,
    space: Space,
    x: Rows,
    y: Sequence[int],
    starts: Sequence[Rows],
    *,
    epses: Sequence[float],
    budget: int,
    seed: int,
    others: Rows | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Trace]:
    """Attack rows (n, ...) with the true labels ``y`` (n,), each for at most ``budget`` queries; a trace for each row.

    ``starts`` (n,) are rows of other classes for each row. ``others`` (m, ...) are unrelated rows, which the mode
    ``hidden`` needs. An attack that does not look for the smallest change takes one eps. ``advance`` is called with the
    number of attacks that ended. What happens to a row does not depend on the rows that run with it.
    """
    attack = ATTACKS[name]
    running = []
    for place, (row, label) in enumerate(zip(x, y, strict=True)):
        low, high = space.bounds(row)
        attacked = AttackedRow(label, low, high, space.sizes(), space.between(row, starts[place]), budget)
        spacing = Spacing(adaptive=mode.startswith("adaptive"), oracle=target.shows_flags, widest=attack.widest)
        rng = np.random.default_rng([seed, place, *name.encode()])
        queries = attack(attacked, max(epses), spacing, rng)
        among = None
        if mode == "hidden":
            assert others is not None  # noqa: S101 - the docstring says so
            among = cycle(others[np.random.default_rng([seed, place]).permutation(len(others))])
        running.append(
            _Running(f"{name} {mode} {place}", row, attacked, queries, epses, Trace(), np.zeros((0, len(low))), among)
        )
        if running[-1].left > 0 and len(low):
            running[-1].wanted = next(queries)
    accounts = ACCOUNTS if mode.endswith("accounts") else 1
    active = [each for each in running if len(each.wanted)]
    advance(len(running) - len(active))
    while active:
        _round(active, attack, target, space, accounts)
        still = [each for each in active if len(each.wanted) and each.left > 0 and not _done(each)]
        advance(len(active) - len(still))
        active = still
    target.forget()
    return [each.trace for each in running]


def _done(each: _Running) -> bool:
    return min(each.epses) in each.trace.successes


def _round(active: list[_Running], attack: QueryAttack, target: Target, space: Space, accounts: int) -> None:
    """Ask what every attack wants next, as far as its budget goes, and hand out the answers."""
    asked = [space.changed(each.row, each.wanted[: each.left]) for each in active]
    sent = [each.sent(rows) for each, rows in zip(active, asked, strict=True)]
    clients = [
        Client(each.name, (each.trace.queries + place) // each.each % accounts)
        for each, rows in zip(active, sent, strict=True)
        for place in range(len(rows))
    ]
    answers, start = target.ask(np.concatenate(sent), clients), 0
    for each, rows, all_rows in zip(active, asked, sent, strict=True):
        answered = answers[start : start + len(all_rows)]
        start += len(all_rows)
        mine = answered[each.each - 1 :: each.each]
        _note(each, rows, answered, lengths(space.between(each.row, rows), attack.norm))
        if len(rows) == len(each.wanted) and not _done(each):
            each.send(mine)


def _note(each: _Running, rows: Rows, answered: Answers, length: Floats) -> None:
    """Note flags and successes, in the order of the rows. A batch of queries counts whole: it was sent whole."""
    trace, mine = each.trace, answered[each.each - 1 :: each.each]
    wrong = is_wrong(mine, each.attacked.label)
    flags = np.flatnonzero(answered.flagged)
    if trace.first_flag is None and len(flags):
        trace.first_flag = trace.queries + int(flags[0]) + 1
    for eps in each.epses:
        hits = np.flatnonzero(wrong & (length <= eps * (1 + TOLERANCE)))
        if eps not in trace.successes and len(hits):
            trace.successes[eps] = trace.queries + each.each * (int(hits[0]) + 1)
            trace.found[eps], trace.passed[eps] = rows[hits[0]], not mine.flagged[hits[0]]
    trace.queries += len(answered.flagged)
