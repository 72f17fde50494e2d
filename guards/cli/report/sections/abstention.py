"""What the report says of guards that abstain for a target error."""

from collections.abc import Iterator

from guards.cli.answering import answering
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Finding
from guards.cli.report.words import between, percent

__all__ = ["abstention_findings"]


def abstention_findings(parts: Parts) -> Iterator[Finding]:
    """Say how many clean rows each such guard answers, and whether too many of these answers are wrong."""
    if parts.clean is None:
        return
    for name, found in answering(parts.bundle, parts.clean.rows, [parts.clean.judged]).items():
        said = f"{name!r} answers {percent(found['answered'])} of the clean rows"
        target, interval = found["target_error"], found["error_interval"]
        if found["error"] is None or interval is None:
            yield Finding("look", f"{said}; whether its target error of {percent(target)} holds is unknown.")
            continue
        wrong = f"{percent(found['error'], 2)} {between(interval, share=True)} of these answers are wrong"
        if interval[0] > target:
            yield Finding("act", f"{said}; {wrong}, more than its target of {percent(target)} and chance explain.")
        else:
            yield Finding("good", f"{said}; {wrong}, and its target is {percent(target)}.")
