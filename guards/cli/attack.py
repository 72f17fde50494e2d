"""``guardhouse attack``: attacks the guarded model with rows of a file, and prints what the attackers achieve."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as Grid

from guards.attacks.campaign import BY_QUERIES, OF_WHITE_BOX, Attack, Attacked, Campaign, blank, norm_of, read_attacks
from guards.attacks.chosen_rows import choose
from guards.attacks.http_target import HttpTarget
from guards.attacks.pipeline_target import PipelineTarget
from guards.attacks.runner import ATTACKS
from guards.attacks.space import Space
from guards.attacks.summary import SOON, Figures
from guards.attacks.target import Target
from guards.bundle.bundle import Bundle
from guards.cli.detection import Interval
from guards.cli.printed_notices import noticing
from guards.cli.requirements import Requirement, judge
from guards.cli.server_key import key_header
from guards.data.rows import load_rows
from guards.types import Mistake

__all__ = ["Asked", "Server", "attack", "show"]

TIMEOUT_SECONDS = 60.0
BEARER = "Bearer "
DEFAULT_EPS = {"image": (0.05, 0.1), "tensor": (0.1, 0.5), "tabular": (0.1, 0.5)}
MEANINGS = (
    "passed: the successful query was not flagged; undetected: no query was flagged up to the success; first flag, "
    "queries: medians"
)
LIMITS = (
    "These attackers are a lower bound: a better attacker may come.",
    "Rows that were crafted on a similar model need one query, and no guard with memory sees them coming.",
    "With many accounts, or slowly, an attacker asks what no single account shows.",
    "A guard that judges single rows is a signal of anomalies, and no defence: compare oblivious with aware.",
)


@dataclass(frozen=True, slots=True)
class Server:
    """The server to attack: its address, and how accounts differ: a file of keys, or a header that names clients."""

    url: str
    keys: Path | None
    header: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked for; None: the defaults for the bundle's rows, and every attack on the target."""

    attacks: list[str] | None
    eps: list[float] | None
    budget: int
    rows: int
    steps: int
    restarts: int
    seed: int


def attack(
    bundle: Bundle,
    data: Path,
    asked: Asked,
    server: Server | None,
    console: Console,
    requirements: list[Requirement] | None = None,
) -> Attacked:
    """Attack rows of a file, with a progress bar on ``console``.

    Raises:
        Mistake: the model is a regression, the file or an option does not fit, a requirement names no figure, or the
            server does not answer.
    """
    if not bundle.classes:
        raise Mistake("attack: the model's task is regression, where no answer is wrong; attack a classification")
    keys = [] if server is None else _keys(server)
    plan = read_attacks(asked.attacks, _possible(server, keys))
    epses = tuple(dict.fromkeys(asked.eps or DEFAULT_EPS[bundle.schema.kind]))
    if any(not 0 < eps < math.inf for eps in epses):
        raise Mistake("--eps: write a number above 0")
    unit = "1" if bundle.schema.kind == "image" else "standard deviation of the file's values"
    document = blank(plan, epses, asked.budget, asked.seed, unit)
    judge(requirements or [], document)  # an unknown name is refused now, and not after the last attack
    with noticing(console) as notices:
        rows = load_rows(data, bundle.config, bundle.schema, bundle.classes, notices)
    if rows.y is None:
        raise Mistake(
            f"--data {data}: it has no labels {bundle.config.reference.label!r}, and an attack needs true labels"
        )
    local, space = PipelineTarget(bundle), Space.of(bundle.schema, rows.x.numpy())
    target: Target = local
    with ExitStack() as connected:
        if server is not None:
            client = connected.enter_context(_client(server))
            target = HttpTarget(bundle, client, keys=keys, header=server.header)
        campaign = Campaign(target, local, space, epses, asked.budget, asked.seed, asked.steps, asked.restarts)
        chosen = choose(rows, bundle.schema, local, count=asked.rows, seed=asked.seed)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            runs = sum(1 if name in ATTACKS and ATTACKS[name].minimises else len(epses) for name, _ in plan)
            task = progress.add_task("attacks", total=runs * len(chosen.x))
            return campaign.run(
                plan, chosen, document, lambda label, ended: progress.update(task, description=label, advance=ended)
            )


def _possible(server: Server | None, keys: list[str]) -> list[Attack]:
    """List what the target allows: gradients need this process, and accounts need names that the server tells apart."""
    if server is None:
        return [*OF_WHITE_BOX, *BY_QUERIES]
    several = len(keys) > 1 or server.header is not None
    return [(name, mode) for name, mode in BY_QUERIES if several or not mode.endswith("accounts")]


def _keys(server: Server) -> list[str]:
    if server.keys is None:
        return [value.removeprefix(BEARER) for value in key_header().values()]
    try:
        keys = server.keys.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise Mistake(f"--keys {server.keys}: it cannot be read ({unreadable})") from None
    if not keys:
        raise Mistake(f"--keys {server.keys}: it is empty; write one key into each line")
    return keys


def _client(server: Server) -> httpx.Client:
    try:
        return httpx.Client(base_url=server.url, timeout=TIMEOUT_SECONDS)
    except httpx.InvalidURL as invalid:
        raise Mistake(f"--url {server.url}: {invalid}") from None


def show(result: Attacked, console: Console) -> None:
    """Print what each attack achieved at each eps, below each share its 95 % interval, and what that cannot tell."""
    rows = result["rows"]
    title = (
        f"{rows['attacked']} rows attacked (of {rows['right']} right answers to {rows['tried']} rows), at most "
        f"{result['budget']} queries each; an eps of 1 is {result['unit']}; below each share its 95 % interval"
    )
    grid = Grid(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    words = [word for modes in result["attacks"].values() for mode in modes for word in mode.split("_")]
    grid.add_column("attack", max_width=max(map(len, ["attack", *result["attacks"], *words])))
    for heading in ("eps", "success", "passed", "undetected", f"flagged\nin {SOON}", "first\nflag", "queries"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for name, modes in result["attacks"].items():
        for mode, by_eps in modes.items():
            for place, (key, figures) in enumerate(by_eps.items()):
                label = "" if place else f"{name}\n{mode.replace('_', ' + ')}"
                grid.add_row(label, key.removeprefix("eps_"), *_cells(figures))
    console.print(grid)
    console.print(MEANINGS, highlight=False)
    by_rms = [name for name in result["attacks"] if norm_of(name) == "rms"]
    if by_rms:
        console.print(f"eps bounds the largest change of a value; for {', '.join(by_rms)} the root mean square change")
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)
    for limit in LIMITS:
        console.print(f"- {limit}", highlight=False, markup=False)


def _cells(figures: Figures) -> tuple[str, ...]:
    shares = (
        _share(figures["success"], figures["success_interval"]),
        _share(figures["passed"], figures["passed_interval"]),
        _share(figures["undetected"], figures["undetected_interval"]),
        _share(figures["flagged_in_20"], figures["flagged_in_20_interval"]),
    )
    if figures["sent"] is None:
        return (*shares, "", "")
    first = figures["first_flag"]
    return (*shares, "never" if first is None else f"{first:g}", f"{figures['queries']:g}")


def _share(value: float | None, interval: Interval | None) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.2f}\n{_short(interval[0])}-{_short(interval[1])}"


def _short(share: float) -> str:
    return f"{share:.2f}".removeprefix("0")
