"""The parts that all dashboards share: one look for each kind of panel, the variables, and the choice of series."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models import prometheus as queries

__all__ = ["OF", "PREDICTIONS", "Panel", "Query", "Row", "bars", "choice", "heat", "label", "lines", "make", "number"]

OF = 'namespace="$namespace", job="$job"'
"""The replicas that a dashboard looks at."""
PREDICTIONS = 'route=~".*[:/]predict|.*/infer|grpc:ModelInfer"'
"""The routes that predict, as the objectives have them."""
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel = timeseries.Panel | stat.Panel | bargauge.Panel | heatmap.Panel
Variable = Builder[models.VariableModel]


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and the name of its series in the legend."""

    expr: str
    legend: str = ""

    def target(self, name: str, *, instant: bool = False, buckets: bool = False) -> prometheus.Dataquery:
        """Ask it of Prometheus: over time, or now, or as a histogram's buckets."""
        built = prometheus.Dataquery().ref_id(name).expr(self.expr).legend_format(self.legend).datasource(SOURCE)
        built = built.instant() if instant else built.range()
        return built.format(queries.PromQueryFormat.HEATMAP if buckets else queries.PromQueryFormat.TIME_SERIES)


@dataclass(frozen=True, slots=True)
class Row:
    """A heading with the panels under it."""

    title: str
    panels: Sequence[Panel]


def _limits(limits: Sequence[float]) -> dashboard.ThresholdsConfig:
    """Colour values: green, from the first limit on orange or red, from the second on red."""
    colours = ("green", "red") if len(limits) < 2 else ("green", "orange", "red")  # noqa: PLR2004
    steps = [
        models.Threshold(value=value, color=colour) for value, colour in zip((None, *limits), colours, strict=False)
    ]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def lines(
    title: str,
    description: str,
    *asked: Query,
    unit: str,
    width: int = 8,
    limits: Sequence[float] = (),
    stacked: bool = False,
) -> timeseries.Panel:
    """Draw series over time; limits are dashed lines."""
    panel = (
        timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(8)
        .fill_opacity(25 if stacked else 5).show_points(looks.VisibilityMode.NEVER).span_nulls(300_000)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions().show_legend(True).display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
        )
    )  # fmt: skip
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_limits(limits)).thresholds_style(style)
    for name, query in zip("ABCDEFGH", asked, strict=False):
        panel.with_target(query.target(name))
    return panel


def number(
    title: str, description: str, query: Query, *, unit: str, width: int = 4, limits: Sequence[float] = ()
) -> stat.Panel:
    """Show a figure as it is now, with its course behind it."""
    return (
        stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(4)
        .thresholds(_limits(limits)).graph_mode(looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE).text_mode(looks.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query.target("A"))
    )  # fmt: skip


def bars(
    title: str, description: str, query: Query, *, unit: str, width: int = 8, limits: Sequence[float] = ()
) -> bargauge.Panel:
    """Compare series as they are now."""
    return (
        bargauge.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(width).height(8).min(0)
        .thresholds(_limits(limits)).orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query.target("A", instant=True))
    )  # fmt: skip


def heat(title: str, description: str, query: Query, *, unit: str, width: int = 8) -> heatmap.Panel:
    """Draw a histogram over time; the query's series are its buckets."""
    colour = heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    return (
        heatmap.Panel().title(title).description(description).datasource(SOURCE).span(width).height(8)
        .calculate(False).color(colour).y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(query.target("A", buckets=True))
    )  # fmt: skip


def label(name: str, of: str, *, title: str = "") -> dashboard.QueryVariable:
    """Let the reader choose among the values that a label has in some series."""
    return (
        dashboard.QueryVariable(name).label(title or name).query(f"label_values({of}, {name})").datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip


def choice(name: str, *options: str) -> dashboard.CustomVariable:
    """Let the reader choose among what is given; the first is chosen."""
    current = models.VariableOption(text=options[0], value=options[0], selected=True)
    return dashboard.CustomVariable(name).label(name).values(",".join(options)).current(current)


def make(
    name: str, title: str, description: str, rows: Sequence[Row], variables: Sequence[Variable] = ()
) -> models.Dashboard:
    """Put a dashboard together; every one begins with the data source, the namespace and the job."""
    others = dashboard.DashboardLink("Guardhouse").type(models.DashboardLinkType.DASHBOARDS).tags(["guardhouse"])
    board = (
        dashboard.Dashboard(f"Guardhouse / {title}").uid(f"guardhouse-{name}").description(description)
        .tags(["guardhouse"]).time("now-6h", "now").refresh("1m").timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(others.as_dropdown(True).include_vars(True).keep_time(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
        .with_variable(label("namespace", "guardhouse_build_info"))
        .with_variable(label("job", 'guardhouse_build_info{namespace="$namespace"}'))
    )  # fmt: skip
    for variable in variables:
        board.with_variable(variable)
    for row in rows:
        board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board.with_panel(panel)
    built = board.build()
    for place, there in enumerate(built.panels or (), 1):
        there.id_val = place
    return built
