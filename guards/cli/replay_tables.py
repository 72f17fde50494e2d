"""The tables of a replay: its first alarms, and what each monitor reports at the end."""

from guards.replay import Replay, Reported

__all__ = ["first_alarms", "pivot"]


def first_alarms(result: Replay) -> tuple[list[str], list[list[str]]]:
    """Lay out the alarms as a table: one line for each monitor and stream, in the order of their first alarms."""
    rows: dict[tuple[str, str], list[int]] = {}
    for alarm in result["alarms"]:
        rows.setdefault((alarm["monitor"], alarm["stream"] or ""), []).append(alarm["row"])
    lines = [[monitor, stream, str(at[0]), str(at[-1]), str(len(at))] for (monitor, stream), at in rows.items()]
    return ["monitor", "stream", "first at row", "last at row", "alarms"], lines


def pivot(reported: Reported) -> tuple[list[str], list[list[str]]]:
    """Lay out a report as a table: one line for each set of labels, and one column for each statistic."""
    names = list(dict.fromkeys(str(statistic["name"]) for statistic in reported["statistics"]))
    lines: dict[str, dict[str, str]] = {}
    for statistic in reported["statistics"]:
        labels = statistic["labels"]
        assert isinstance(labels, dict)  # noqa: S101
        line = lines.setdefault(", ".join(map(str, labels.values())), {"n": str(statistic["n"])})
        line[str(statistic["name"])] = _figure(statistic["value"], statistic["interval"])
    return ["of", *names, "n"], [[of, *(line.get(name, "") for name in [*names, "n"])] for of, line in lines.items()]


def _figure(value: object, interval: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    if not isinstance(interval, list):
        return f"{value:.6g}"
    low, high = ("-" if end is None else f"{end:.3g}" for end in interval)
    return f"{value:.4g} [{low}, {high}]"
