"""The section about cost: what each stage takes on this machine."""

import torch

from guards.cli.report.charts import bars
from guards.cli.report.measures.stage_cost import BATCH, StageCost, machine
from guards.cli.report.parts import Parts
from guards.cli.report.sections.section import Finding, Grid, Remark, Section, chart

__all__ = ["cost_section"]


def cost_section(parts: Parts, costs: list[StageCost]) -> Section:
    """Compare the guards' time with the model's."""
    micros = {each.stage: each.median for each in costs}
    guards = micros["input guards"] + micros["output guards"]
    sentence = (
        f"In batches of {BATCH} a row takes {_micros(sum(micros.values()))}: the model {_micros(micros['model'])}, the "
        f"guards {_micros(guards)}, and the decision {_micros(micros['decision'])}."
    )
    figure = bars(micros, label="microseconds a row")
    lines = tuple((each.stage, f"{each.median:.1f}", f"{each.low:.1f} to {each.high:.1f}") for each in costs)
    grid = Grid("Microseconds a row", ("stage", "median", "90 % of the batches"), lines)
    remark = (
        f"Measured on {machine(torch.device(parts.bundle.model.device))}, with nothing between the "
        "stages: a server also "
        "reads requests, waits and writes answers. On a busy machine all figures are too high; compare the stages."
    )
    blocks = (
        chart("cost", "Time by stage", "The decision turns scores into p-values, actions and prediction sets.", figure),
        grid,
        Remark(remark),
    )
    return Section("cost", "Cost", (Finding("good", sentence),), blocks)


def _micros(value: float) -> str:
    return f"{value:.1f} µs" if value < 1000 else f"{value / 1000:.1f} ms"  # noqa: PLR2004 - a thousand
