"""The console's tab Groups in a real browser: rates, differences, and what feedback is missing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from accessibility import findings
from example_folders import ALLOWED, write_table
from gateways import fit_all
from visited_page import SIZES, Visit
from waiting import until

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

MONITORS = [
    {
        "name": "sex",
        "kind": "groups",
        "attribute": "sex",
        "source": {"request": "sex"},
        "levels": ["Female", "Male"],
        "positive": "yes",
        "tolerance": 0.1,
    },
    {"name": "region", "kind": "groups", "attribute": "region", "source": {"column": "region"}},
]
ROWS = 120
POOR = ALLOWED | {"age": 30, "income": 30}
LINES = (
    '[...document.querySelectorAll(\'[aria-label="Groups by {group}"] [aria-label="{table}"] tbody tr\')]'
    ".map((line) => line.innerText.replace(/\\s+/g, ' '))"
)


@pytest.fixture(scope="module")
def server(bundles: "Bundles") -> "Iterator[Gateway]":
    """Serve a classifier with two monitors of groups, of which one declares a tolerance."""
    config = write_table(bundles.folder / "grouped", monitors=MONITORS)
    fit_all({config: config.parent / "bundle"}, PYTHONPATH=bundles.python_path)
    gateway = bundles.serve("grouped")
    yield gateway.wait_ready()
    gateway.stop()


def lines(page: Visit, table: str, group: str = "sex") -> list[str]:
    """Give the texts of the rows of a table of estimates."""
    found: list[str] = page.value(LINES.replace("{group}", group).replace("{table}", table))
    return found


def findings_of(page: Visit, group: str = "sex") -> str:
    return page.text(f'[aria-label="Groups by {group}"] .findings')


def opened(page: Visit, server: "Gateway", **how: Any) -> None:
    page.go(f"{server.url}/console#groups", **how)
    page.wait("document.querySelectorAll('.groups').length === 2")


def send(server: "Gateway", rows: list[Any], group: str, first: int) -> list[str]:
    """Predict rows of a group, and give their ids."""
    ids = [f"{group}-{first + place}" for place in range(len(rows))]
    server.predict(rows, ids=ids, groups={"sex": [group] * len(rows)})
    return ids


def feed_back(server: "Gateway", ids: list[str], label: str) -> None:
    outcomes = [{"id": each, "label": label} for each in ids]
    answer = server.post({"outcomes": outcomes}, f"/v1/models/{server.name}:feedback")
    assert answer.json()["accepted"] == len(ids)


def percent(text: str) -> float:
    """Read the first share in a row of a table."""
    return float(text.partition(" %")[0].rpartition(" ")[2])


def test_without_rows_the_page_says_so(page: Visit, server: "Gateway") -> None:
    """Before the first row, the page shows the declared groups and says that too few rows were answered."""
    opened(page, server)
    assert "Too few rows" in page.text('[aria-label="Groups by sex"] .lead')
    assert "No row has been answered yet" in findings_of(page)
    assert "under groups.sex" in page.text('[aria-label="Groups by sex"]')
    assert page.complaints() == []


def test_an_alarm_appears_while_the_page_is_open(page: Visit, server: "Gateway") -> None:
    """Groups that get different answers put the monitor into alarm on the open page, beyond the tolerance's band."""
    opened(page, server)
    page.value("window.untouched = true")
    send(server, [ALLOWED] * ROWS, "Male", 0)
    send(server, [POOR] * ROWS, "Female", 0)
    page.wait_text('[aria-label="Groups by sex"] .state', lambda text: text == "alarm")
    assert page.value("window.untouched")
    first = lines(page, "Largest differences between groups")[0]
    assert first.startswith(f"selection rate {2 * ROWS} rows 100 %")
    assert first.endswith("beyond the tolerance")
    assert "more than the tolerance of 10 %" in page.text('[aria-label="Groups by sex"] .lead')
    assert page.value("document.querySelectorAll('[aria-label=\"Groups by sex\"] .dots .band').length") > 0
    assert page.value("document.querySelectorAll('[aria-label=\"Groups by region\"] .dots .band').length") == 0
    assert "No outcome is known yet" in findings_of(page)


def test_rates_are_those_of_the_report(page: Visit, server: "Gateway") -> None:
    """Each row of a table says the group, the number of rows, the value and the interval of /monitors."""
    send(server, [ALLOWED, POOR] * 20, "Female", ROWS)
    report = server.client.get(f"/v1/models/{server.name}/monitors").json()["monitors"]["sex"]["statistics"]
    wanted = [each for each in report if each["name"] == "selection_rate" and each["n"]]
    opened(page, server)
    until(lambda: f"{wanted[0]['n']} rows" in lines(page, "Selection rate")[0])
    found = lines(page, "Selection rate")
    assert len(found) == len(wanted) == 2
    for line, figure in zip(found, wanted, strict=True):
        assert line.startswith(f"{figure['labels']['group']} {figure['n']} rows ")
        assert percent(line) == pytest.approx(100 * figure["value"], abs=0.06)
        low, high = (float(end.strip(" %]")) for end in line.partition("[")[2].split(","))
        assert (low, high) == pytest.approx([100 * end for end in figure["interval"]], abs=0.06)


def test_the_page_says_which_outcomes_are_missing(page: Visit, server: "Gateway") -> None:
    """Outcomes of one group alone: the page names the group that has none, and the answers that never have one."""
    ids = send(server, [ALLOWED] * ROWS, "Male", 1000)
    feed_back(server, ids[:60], "yes")
    send(server, [POOR] * ROWS, "Female", 1000)
    opened(page, server)
    known = "60 of 520 answered rows"
    said = page.wait_text('[aria-label="Groups by sex"] .findings', lambda text: known in text)
    assert "No outcome is known of these groups: Female" in said
    assert "Outcomes come for some predictions and never for others (no)" in said
    assert lines(page, "Label coverage")[0].startswith("Female")
    assert percent(lines(page, "Accuracy")[1]) == 100


def test_a_label_is_chosen(page: Visit, server: "Gateway") -> None:
    """A monitor without a positive label shows the rates of the label that the reader chooses."""
    opened(page, server)
    group = '[aria-label="Groups by region"]'
    assert page.value(f"document.querySelector('{group} select').value") == "no"
    before = percent(lines(page, "Selection rate", "region")[0])
    page.value(
        f"{{ const chosen = document.querySelector('{group} select'); chosen.value = 'yes';"
        " chosen.dispatchEvent(new Event('change')); true }"
    )
    assert percent(lines(page, "Selection rate", "region")[0]) == pytest.approx(100 - before, abs=0.1)
    assert "the label yes" in page.text(f"{group} .pairs")


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_everybody_can_read_the_tab(
    page: Visit, server: "Gateway", width: int, scheme: Literal["light", "dark"]
) -> None:
    """axe-core finds nothing serious, nothing is wider than the window, and no other host is asked."""
    opened(page, server, width=width, scheme=scheme)
    assert findings(page) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith((server.url, "data:", "about:"))] == []


def test_without_groups_the_page_says_how_to_declare_some(page: Visit, images: "Gateway") -> None:
    """A model without a monitor of groups: the page shows what to write into the config."""
    page.go(f"{images.url}/console#groups")
    page.wait_text("#panel pre", lambda text: "kind: groups" in text)
    assert "This model has no groups" in page.text("#panel")
    assert page.complaints() == []
