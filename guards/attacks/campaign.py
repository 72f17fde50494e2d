"""Runs the attacks that a user asked for, one after the other, and gathers their figures into one document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from guards.attacks.chosen_rows import ChosenRows
from guards.attacks.pgd import KNOWLEDGE, Knowledge, Pgd
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.query_attack import Norm
from guards.attacks.runner import ATTACKS, MODES, Mode, run
from guards.attacks.space import Space
from guards.attacks.summary import Figures, nothing, of_crafted, of_traces
from guards.attacks.target import Target
from guards.types import Mistake

__all__ = [
    "BY_QUERIES",
    "OF_WHITE_BOX",
    "WHITE_BOX",
    "Attack",
    "Attacked",
    "Campaign",
    "blank",
    "key_of",
    "norm_of",
    "read_attacks",
]

WHITE_BOX: dict[str, Norm] = {"pgd": "linf", "pgd_rms": "rms"}
Attack = tuple[str, str]
"""An attack and its mode: ``("nes", "adaptive")``, ``("pgd", "aware")``."""
BY_QUERIES: tuple[Attack, ...] = tuple((name, mode) for name in ATTACKS for mode in MODES)
OF_WHITE_BOX: tuple[Attack, ...] = tuple((name, mode) for name in WHITE_BOX for mode in KNOWLEDGE)


class Attacked(TypedDict):
    """The JSON document of ``attack --json``: ``attacks`` by name, mode and eps (``eps_0.1``).

    ``rows`` counts the rows of the file that were tried, that were classified rightly, and that were attacked. ``unit``
    is what an eps of 1 means. ``warnings`` say which figures are not to be trusted.
    """

    rows: dict[str, int]
    budget: int
    seed: int
    unit: str
    attacks: dict[str, dict[str, dict[str, Figures]]]
    warnings: list[str]


def read_attacks(texts: Sequence[str] | None, possible: Sequence[Attack]) -> list[Attack]:
    """Read ``nes`` (every mode) and ``nes.plain``; without a text, every possible attack.

    Raises:
        Mistake: there is no such attack, or the target does not allow it.
    """
    if not texts:
        return list(possible)
    chosen: dict[Attack, None] = {}
    for text in texts:
        name, _, mode = text.partition(".")
        found = [attack for attack in possible if attack[0] == name and mode in ("", attack[1])]
        if not found:
            raise Mistake(
                f"--attacks {text}: there is no such attack on this target; there are "
                f"{', '.join('.'.join(attack) for attack in possible)}"
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def key_of(eps: float) -> str:
    """Name an eps in the document.

    >>> key_of(0.10)
    'eps_0.1'
    """
    return f"eps_{eps:g}"


def norm_of(name: str) -> Norm:
    """Give the norm in which an attack measures changes."""
    return WHITE_BOX[name] if name in WHITE_BOX else ATTACKS[name].norm


def blank(attacks: Sequence[Attack], epses: Sequence[float], budget: int, seed: int, unit: str) -> Attacked:
    """Give the document before anything has run."""
    figures: dict[str, dict[str, dict[str, Figures]]] = {}
    for name, mode in attacks:
        figures.setdefault(name, {})[mode] = {key_of(eps): nothing() for eps in epses}
    rows = dict.fromkeys(("tried", "right", "attacked"), 0)
    return {"rows": rows, "budget": budget, "seed": seed, "unit": unit, "attacks": figures, "warnings": []}


@dataclass(frozen=True, slots=True)
class Campaign:
    """What runs: ``attacks`` within each of ``epses``, with ``budget`` queries to each row.

    ``local`` is the pipeline in this process, which the white box needs; ``target`` is what is asked.
    """

    target: Target
    local: PipelineTarget
    space: Space
    epses: tuple[float, ...]
    budget: int
    seed: int
    steps: int
    restarts: int

    def run(
        self, attacks: Sequence[Attack], chosen: ChosenRows, document: Attacked, advance: Callable[[str, int], None]
    ) -> Attacked:
        """Attack the chosen rows, and fill the document; ``advance`` gets the running attack and its rows that ended.

        Raises:
            Mistake: the target does not answer, or the model has no gradient.
        """
        document["rows"] = {"tried": chosen.tried, "right": chosen.right, "attacked": len(chosen.x)}
        pgd = Pgd(self.local, self.space, steps=self.steps, restarts=self.restarts)
        for name, mode in attacks:
            figures = document["attacks"][name][mode]
            for some in [self.epses] if name in ATTACKS and ATTACKS[name].minimises else [(eps,) for eps in self.epses]:
                label = f"{name} {mode} {' '.join(f'{eps:g}' for eps in some)}"

                def ended(rows: int, label: str = label) -> None:
                    advance(label, rows)

                if name in WHITE_BOX:
                    knowledge, eps = cast("Knowledge", mode), some[0]
                    crafted = pgd(
                        knowledge, WHITE_BOX[name], chosen.x, chosen.y, eps=eps, seed=self.seed, advance=ended
                    )
                    figures[key_of(eps)] = of_crafted(crafted)
                    continue
                traces = run(
                    name, cast("Mode", mode), self.target, self.space, chosen.x, chosen.y.tolist(), chosen.starts,
                    epses=some, budget=self.budget, seed=self.seed, others=chosen.others, advance=ended,
                )  # fmt: skip
                for eps in some:
                    figures[key_of(eps)] = of_traces(traces, eps)
        document["warnings"] = [*_blind(attacks, pgd), *_weaker_white_box(document, self.epses)]
        return document


def _blind(attacks: Sequence[Attack], pgd: Pgd) -> list[str]:
    if not pgd.excess.blind or not any(mode == "aware" for _, mode in attacks):
        return []
    names = ", ".join(pgd.excess.blind)
    return [f"the aware white box has no gradient of {names}, and only tries its rows: a better attacker may pass"]


def _weaker_white_box(document: Attacked, epses: Sequence[float]) -> list[str]:
    """Warn if an attack by queries finds more wrong labels than the white box within the same eps and norm."""
    sentences = []
    for eps in epses:
        best: dict[tuple[Norm, bool], tuple[float, str]] = {}
        for name, modes in document["attacks"].items():
            for mode, figures in modes.items():
                success = figures[key_of(eps)]["success"]
                place = norm_of(name), name in WHITE_BOX
                if success is not None and success > best.get(place, (-1.0, ""))[0]:
                    best[place] = success, f"{name}.{mode}"
        for norm in ("linf", "rms"):
            white, black = best.get((norm, True)), best.get((norm, False))
            if white is not None and black is not None and black[0] > white[0]:
                sentences.append(
                    f"eps {eps:g}: {black[1]} succeeds on {black[0]:.0%} of the rows, and the white box on "
                    f"{white[0]:.0%}: gradients of this model mislead, so do not trust the figures of {white[1]}"
                )
    return sentences
