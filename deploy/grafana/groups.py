"""Groups: rates by group over a day, and how far the groups are apart."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import OF, Query, Row, label, lines, make

BY = f'{OF}, attribute="$attribute"'
LABEL = f'{BY}, label="$label"'
RATES = (
    ("Selection rate", "selection_rate", "Share of answered rows that were predicted $label."),
    (
        "True positive rate",
        "true_positive_rate",
        "Share of rows that are truly $label and were predicted so; of rows whose labels have come.",
    ),
    (
        "False positive rate",
        "false_positive_rate",
        "Share of rows that are not $label and were predicted so; of rows whose labels have come.",
    ),
    (
        "Positive predictive value",
        "positive_predictive_value",
        "Share of rows predicted $label that truly are; of rows whose labels have come.",
    ),
)
APART = "Largest {} less smallest; the alert asks for 0.1 and four standard errors."
PARITY, OPPORTUNITY = APART.format("selection rate"), APART.format("true positive rate")
ODDS = "The larger of the differences of true and of false positive rates."
DIFFERENCES: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (
    ("Demographic parity difference", "demographic_parity_difference", PARITY, (0.1,)),
    ("Demographic parity ratio", "demographic_parity_ratio", "Smallest selection rate over largest.", ()),
    ("Equal opportunity difference", "equal_opportunity_difference", OPPORTUNITY, (0.1,)),
    ("Equalized odds difference", "equalized_odds_difference", ODDS, (0.1,)),
)


def dashboard() -> Dashboard:
    """Build the dashboard."""
    counted = f"guardhouse_group_predictions_total{{{OF}"
    variables = [
        label("attribute", f"{counted}}}"),
        label("label", f'{counted}, attribute="$attribute", label!="none"}}'),
    ]
    return make(
        "groups", "Groups", "What groups get: rates over a day, and differences between groups.", rows(), variables
    )


def rows() -> list[Row]:
    """Give the panels."""
    return [
        Row(
            "Between groups, label $label",
            [
                lines(
                    title,
                    f"{told} Groups other and unknown are never compared.",
                    Query(f"guardhouse:{name}:1d{{{LABEL}}}", "{{attribute}}"),
                    unit="short",
                    width=6,
                    limits=limits,
                )
                for title, name, told, limits in DIFFERENCES
            ],
        ),
        Row(
            "By group, label $label",
            [
                lines(
                    title,
                    told,
                    Query(f"guardhouse:{name}:ratio1d{{{LABEL}}}", "{{group}}"),
                    unit="percentunit",
                    width=6,
                )
                for title, name, told in RATES
            ],
        ),
        Row(
            "By group",
            [
                lines(
                    "Accuracy",
                    "Share of right answers among rows whose labels have come.",
                    Query(f"guardhouse:group_accuracy:ratio1d{{{BY}}}", "{{group}}"),
                    unit="percentunit",
                    width=6,
                ),
                lines(
                    "Labelled",
                    (
                        "Share of answered rows whose labels have come: if it depends on the decision, "
                        "rates that need labels mislead."
                    ),
                    Query(f"guardhouse:label_coverage:ratio1d{{{BY}}}", "{{group}}"),
                    unit="percentunit",
                    width=6,
                ),
                lines(
                    "Touched",
                    "Share of rows that were flagged, abstained from or rejected.",
                    Query(
                        f'sum by (group) (guardhouse:group_action_rate:ratio1d{{{BY}, action!="allow"}})', "{{group}}"
                    ),
                    unit="percentunit",
                    width=6,
                ),
                lines(
                    "Rows",
                    "Answered rows: the alerts ask for 500 a group.",
                    Query(f"guardhouse:group_answered:increase1d{{{BY}}}", "{{group}}"),
                    unit="short",
                    width=6,
                    limits=(500,),
                ),
            ],
        ),
    ]
