"""Drift: each stream's distance from its reference, the monitors' evidence against it, and its bins."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import OF, Query, Row, bars, choice, label, lines, make, number

WINDOW = f'{OF}, window="$window"'
STREAM = f'{WINDOW}, stream="$stream"'


def dashboard() -> Dashboard:
    """Build the dashboard."""
    variables = [choice("window", "1h", "1d"), label("stream", f"guardhouse_reference_rows{{{OF}}}")]
    return make(
        "drift", "Drift", "Streams of rows against the reference that the bundle was fitted on.", rows(), variables
    )


def rows() -> list[Row]:
    """Give the panels."""
    return [
        Row(
            "All streams",
            [
                number(
                    "Streams above 0.1",
                    "Streams with a population stability index above 0.1.",
                    Query(
                        f"count(guardhouse:drift_psi{{{WINDOW}}} > 0.1) or 0 * count(guardhouse:drift_psi{{{WINDOW}}})",
                        "streams",
                    ),
                    unit="short",
                    width=6,
                    limits=(1,),
                ),
                number(
                    "Largest",
                    "The largest population stability index, and whose it is.",
                    Query(f"topk(1, guardhouse:drift_psi{{{WINDOW}}})", "{{stream}}"),
                    unit="short",
                    width=6,
                    limits=(0.1, 0.25),
                ),
                number(
                    "Rows",
                    "Rows in the window, of the stream that has most.",
                    Query(f"max(guardhouse:drift_rows{{{WINDOW}}})", "rows"),
                    unit="short",
                    width=6,
                ),
                number(
                    "Monitors in alarm",
                    "Monitors that keep a promise on false alarms and are in alarm on some replica.",
                    Query(
                        (
                            f'count(max by (monitor) (guardhouse_monitor_state{{{OF}, state="alarm"}}) == 1 '
                            f"and on (monitor) guardhouse_drift_alarms_total{{{OF}}}) "
                            f"or 0 * count(guardhouse_drift_alarms_total{{{OF}}})"
                        ),
                        "monitors",
                    ),
                    unit="short",
                    width=6,
                    limits=(1,),
                ),
                lines(
                    "Population stability index",
                    "About 0 without drift; the alerts' limits are 0.1 and 0.25, if chance does not explain it.",
                    Query(f"guardhouse:drift_psi{{{WINDOW}}}", "{{stream}}"),
                    unit="short",
                    width=12,
                    limits=(0.1, 0.25),
                ),
                bars(
                    "Largest now",
                    "The ten streams with the largest population stability index.",
                    Query(f"topk(10, guardhouse:drift_psi{{{WINDOW}}})", "{{stream}}"),
                    unit="short",
                    width=12,
                    limits=(0.1, 0.25),
                ),
                lines(
                    "Jensen-Shannon distance",
                    "0 is alike, 1 nothing in common.",
                    Query(f"guardhouse:drift_jensen_shannon_distance{{{WINDOW}}}", "{{stream}}"),
                    unit="short",
                ),
                lines(
                    "Chi-squared, z",
                    "Standard errors from no drift; the alerts ask for 4.75.",
                    Query(f"guardhouse:drift_chi_squared_z{{{WINDOW}}}", "{{stream}}"),
                    unit="short",
                    limits=(4.7534,),
                ),
                lines(
                    "Kolmogorov-Smirnov statistic",
                    "The largest difference between the two distributions, of streams with an order.",
                    Query(f"guardhouse:drift_ks_statistic{{{WINDOW}}}", "{{stream}}"),
                    unit="short",
                ),
            ],
        ),
        Row(
            "Monitors",
            [
                lines(
                    "Evidence",
                    (
                        "Log e-value against no drift by stream, the largest of the replicas: it grows "
                        "while rows drift, and alarms at a stated average run length."
                    ),
                    Query(f"max by (monitor, stream) (guardhouse_drift_evidence{{{OF}}})", "{{monitor}} {{stream}}"),
                    unit="short",
                    width=12,
                ),
                lines(
                    "Alarms, 1h",
                    "Alarms raised within an hour, by the streams they name.",
                    Query(
                        f"sum by (monitor, stream) (increase(guardhouse_drift_alarms_total{{{OF}}}[1h]))",
                        "{{monitor}} {{stream}}",
                    ),
                    unit="short",
                    width=12,
                ),
            ],
        ),
        Row(
            "Stream $stream",
            [
                bars(
                    "Rows by bin",
                    "Share of the window's rows in each bin.",
                    Query(f"max by (bin) (guardhouse:drift_bin_ratio{{{STREAM}}})", "{{bin}}"),
                    unit="percentunit",
                ),
                bars(
                    "Reference by bin",
                    "Share of the reference's rows in each bin.",
                    Query(f"max by (bin) (guardhouse:drift_reference_bin_ratio{{{STREAM}}})", "{{bin}}"),
                    unit="percentunit",
                ),
                lines(
                    "Bins over time",
                    "Share of the window's rows in each bin.",
                    Query(f"max by (bin) (guardhouse:drift_bin_ratio{{{STREAM}}})", "{{bin}}"),
                    unit="percentunit",
                    stacked=True,
                ),
            ],
        ),
    ]
