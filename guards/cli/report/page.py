"""Writes the page: every text is escaped, because names of columns and classes come from files."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from guards.cli.report.sections.section import Finding, Level, Section
from guards.sentences import agreeing, counted

__all__ = ["LEVELS", "render"]

LEVELS: dict[Level, str] = {"act": "needs action", "look": "needs a look", "good": "fine"}


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Render the sections as one HTML document that asks no host for anything, and runs no script."""
    environment = Environment(
        loader=PackageLoader("guards.cli.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    urgent: list[tuple[Section, Finding]] = [
        (section, finding)
        for level in ("act", "look")
        for section in sections
        for finding in section.findings
        if finding.level == level
    ]
    counts = {level: sum(f.level == level for s in sections for f in s.findings) for level in LEVELS}
    act, look, good = (counts[level] for level in LEVELS)
    tally = (
        f"Of {counted(act + look + good, 'finding')} {act} {agreeing(act, 'needs', 'need')} action, "
        f"{look} {agreeing(look, 'needs', 'need')} a look, {good} {agreeing(good, 'is', 'are')} fine."
    )
    return environment.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, urgent=urgent, levels=LEVELS, tally=tally
    )
