"""The console's tab Model in a real browser: what is served, how good it is, and what its guards cannot do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest
from accessibility import findings
from example_folders import ALLOWED, TABLE_CONFIG, TABLE_GUARDS, write_table
from gateways import fit_all
from visited_page import SIZES, Visit

from guards.detectors.mahalanobis import Mahalanobis

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

ROWS = 60
LINES = (
    "[...document.querySelectorAll('[aria-label=\"{table}\"] tbody tr')]"
    ".map((line) => line.innerText.replace(/\\s+/g, ' '))"
)


@pytest.fixture(scope="module")
def server(bundles: "Bundles") -> "Iterator[Gateway]":
    """Serve a classifier of a table that has answered rows and knows some outcomes."""
    config = write_table(bundles.folder / "described", coverage=0.9)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway = bundles.serve("described").wait_ready()
    ids = [f"row-{place}" for place in range(ROWS)]
    gateway.predict([ALLOWED] * ROWS, ids=ids)
    outcomes = [{"id": each, "label": "yes" if place % 4 else "no"} for place, each in enumerate(ids)]
    gateway.post({"outcomes": outcomes}, f"/v1/models/{gateway.name}:feedback")
    yield gateway
    gateway.stop()


def opened(page: Visit, server: "Gateway", width: int = 1280, scheme: Literal["light", "dark"] = "light") -> None:
    page.go(f"{server.url}/console#model", width=width, scheme=scheme)
    page.wait("!!document.querySelector('[aria-label=\"Accuracy\"] tbody tr')")


def lines(page: Visit, table: str) -> list[str]:
    """Give the texts of the rows of a table."""
    found: list[str] = page.value(LINES.replace("{table}", table))
    return found


def test_the_page_says_what_is_served(page: Visit, server: "Gateway") -> None:
    """Name, version, the bundle's id, the labels and the columns are on the page, and the id can be copied."""
    opened(page, server)
    served = page.text('[aria-label="What is served"]')
    described = server.client.get("/console/data/model").json()
    for text in ("loans, version 2024.1", described["bundle"], "2 labels: no, yes", "tables of 5 columns"):
        assert text in served
    assert set(lines(page, "Columns")) == {""}  # folded: the browser shows no text
    page.click('[aria-label="What is served"] summary')
    assert [line.split(" ")[0] for line in lines(page, "Columns")] == ["age", "income", "region", "job", "trap"]
    page.click('[aria-label="What is served"] button')
    page.wait_text('[aria-label="What is served"] [role=status]', lambda text: text != "")


def test_accuracy_stands_beside_what_was_promised(page: Visit, server: "Gateway") -> None:
    """Held-out, expected and realised accuracy are those of the report, and coverage is judged by its promise."""
    opened(page, server)
    figures = server.client.get(f"/v1/models/{server.name}/monitors").json()["monitors"]["accuracy"]["statistics"]
    value = {each["name"]: each["value"] for each in figures if "group" not in each["labels"]}
    shown = lines(page, "Accuracy")
    names = {
        "held-out rows": "reference_accuracy",
        "live, expected": "expected_accuracy",
        "live, realised": "realised_accuracy",
    }
    for text, name in names.items():
        (line,) = [each for each in shown if each.startswith(text) and "recent" not in each]
        assert f" {100 * value[name]:.1f}".removesuffix(".0") in line
    assert value["realised_accuracy"] == 0.75
    assert "of live rows with an outcome" in page.text('[aria-label="Accuracy and promises"] .lead')
    (coverage,) = lines(page, "Coverage")
    assert coverage.startswith(f"live, with an outcome {ROWS} rows")
    (flagged,) = lines(page, "Rows that guards flagged")
    assert flagged.endswith(("agrees with the promise", "as promised"))


def test_each_guard_says_what_it_cannot_see(page: Visit, server: "Gateway") -> None:
    """Every guard has a card with its action, its budget and its blind spots, and what was counted."""
    opened(page, server)
    names = page.value("[...document.querySelectorAll('.cards h4')].map((each) => each.firstChild.textContent)")
    assert tuple(names) == TABLE_GUARDS
    cards = page.value("[...document.querySelectorAll('.cards .card')].map((each) => each.textContent)")
    by_name = dict(zip(TABLE_GUARDS, cards, strict=True))
    assert Mahalanobis.blind_spots in by_name["ood"]
    assert "abstains: the row gets no label" in by_name["ood"]
    assert "of the budget of 10 %" in by_name["ood"]
    assert "not shown" in by_name["hidden"]
    assert "does not say what the guard cannot see" in by_name["wire"]
    page.wait(f"document.querySelectorAll('.cards .card')[1].textContent.includes('of {ROWS} rows flagged')")


def test_monitors_config_and_report_are_there(page: Visit, server: "Gateway") -> None:
    """Every monitor has its state, the config can be read, and the page names the command that writes a report."""
    opened(page, server)
    watched = [each.split(" ")[0] for each in lines(page, "Monitors")]
    configured = [each["name"] for each in TABLE_CONFIG["monitors"]]
    assert watched == [*configured, "accuracy"]
    page.wait(
        "![...document.querySelectorAll('[aria-label=Monitors] td')].some((cell) => cell.textContent === 'unknown')"
    )
    assert "false_alarm_budget: 0.1" in page.text("pre[aria-label=Config]")
    assert "guardhouse report" in page.text("#panel pre[aria-label=Command]")


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_everybody_can_read_the_tab(
    page: Visit, server: "Gateway", width: int, scheme: Literal["light", "dark"]
) -> None:
    """axe-core finds nothing serious, nothing is wider than the window, and no other host is asked."""
    opened(page, server, width, scheme)
    page.value("document.querySelectorAll('details').forEach((each) => { each.open = true; }) ?? true")
    assert findings(page) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith((server.url, "data:", "about:"))] == []
