"""What a section of the report is made of: findings, and blocks of tables, charts and remarks."""

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup
from matplotlib.figure import Figure

from guards.cli.report.svg import inline_svg

__all__ = ["Block", "Chart", "Finding", "Grid", "Level", "Remark", "Section", "chart"]

GAP, HALF = 2, 60
"""Letters between two columns, and letters that half of the page holds."""
Level = Literal["act", "look", "good"]
"""``act``: something is wrong; ``look``: a person should look; ``good``: nothing to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that says what was found, and how much it matters."""

    level: Level
    sentence: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first ``left`` columns are names, the others are figures."""

    caption: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    left: int = 1
    kind: Literal["grid"] = "grid"

    @property
    def wide(self) -> bool:
        """Whether the table takes the whole width of the page."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.lines, strict=True)]
        return sum(widths) + GAP * len(widths) > HALF


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart; the caption says what to look for."""

    title: str
    caption: str
    svg: Markup
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True, slots=True)
class Remark:
    """A paragraph: how to read what is beside it, or what it does not say."""

    text: str
    kind: Literal["remark"] = "remark"


Block = Grid | Chart | Remark


@dataclass(frozen=True, slots=True)
class Section:
    """One section; its first finding is the sentence that it begins with."""

    name: str
    title: str
    findings: tuple[Finding, ...]
    blocks: tuple[Block, ...]


def chart(name: str, title: str, caption: str, figure: Figure) -> Chart:
    """Draw a figure as a chart; ``name`` is different from the name of any other chart."""
    return Chart(title, caption, inline_svg(figure, name=name, title=title))
