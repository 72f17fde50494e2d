"""The console's tab Try, in a real browser, before a server of images and a server of a table."""

import ast
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from accessibility import findings
from example_folders import ABSTAINED, ALLOWED, REJECTED, images, write_images, write_table
from fresh_client import FRESH
from gateways import PLAIN, fit_all
from image_files import png
from visited_page import Visit
from waiting import until

from service.keys.key_file import add_key

if TYPE_CHECKING:
    from gateways import Gateway

NEAREST = {"method": "neighbours", "count": 3, "show_rows": True}
ALERT = ".try-alert"
WAYS = ("curl", "Python (requests)", "tritonclient", "BentoML client")
SIMPLE = {
    "ready": True,
    "shadow": False,
    "groups": [],
    "guards": [],
    "neighbours": False,
    "known_rows": [],
    "coverage": 0.9,
}


@pytest.fixture(scope="module")
def fitted(bundles: Any) -> Any:
    """Fit a model of images and a model of a table; their bundles hold known rows, and explanations name neighbours."""
    kept: dict[str, Any] = {"store_reference_rows": True}
    near = {"methods": [{"method": "integrated_gradients"}, NEAREST]}
    exact = {"method": "shapley", "methods": [{"method": "shapley"}, NEAREST]}
    configs = [
        write_images(bundles.folder / "tried-images", explain=near, **kept),
        write_table(bundles.folder / "tried-table", explain=exact, coverage=0.9, **kept),
    ]
    fit_all({config: config.parent / "bundle" for config in configs}, PYTHONPATH=bundles.python_path)
    return bundles


@pytest.fixture(scope="module")
def pictures(fitted: Any) -> "Iterator[Gateway]":
    """Serve the model of images."""
    yield from _served(fitted, "tried-images")


@pytest.fixture(scope="module")
def table(fitted: Any) -> "Iterator[Gateway]":
    """Serve the model of a table."""
    yield from _served(fitted, "tried-table")


@dataclass(frozen=True, slots=True)
class Keyed:
    """A server that asks for a key, and a key with which the console can be opened and rows predicted."""

    gateway: "Gateway"
    key: str


@pytest.fixture(scope="module")
def keyed(fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """Serve the model of images to those who have a key."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    key = add_key(file, "visitor", ["console", "predict"])
    gateway: Gateway = fitted.serve("tried-images", GUARDHOUSE_API_KEYS_FILE=str(file))
    yield Keyed(gateway.wait_ready(), key)
    gateway.stop()


def _served(bundles: Any, name: str) -> "Iterator[Gateway]":
    gateway: Gateway = bundles.serve(name)
    gateway.wait_ready()
    until(lambda: FRESH.get(f"{gateway.url}/console/data/now").json()["thresholds"], pause=0.1)
    yield gateway
    gateway.stop()


def opened(page: Visit, gateway: "Gateway", **how: Any) -> None:
    """Open the tab, and wait until its known rows are there."""
    page.go(f"{gateway.url}/console#try", **how)
    page.wait("document.querySelectorAll('.try-known').length")


def sent(page: Visit) -> dict[str, Any]:
    """Give the body of the last request that the page sent for a prediction."""
    bodies = [
        event["params"]["request"]["postData"]
        for event in page.events
        if event.get("method") == "Network.requestWillBeSent" and ":predict" in event["params"]["request"]["url"]
    ]
    body: dict[str, Any] = json.loads(bodies[-1])
    return body


def run(text: str, way: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copied request as it is, in a shell or in Python."""
    program = ["bash", "-c"] if way == "curl" else [sys.executable, "-W", "ignore", "-c"]
    return subprocess.run(
        [*program, text], env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def answered(page: Visit, label: str, action: str) -> None:
    """Wait until the page shows an answer with such a label and action."""
    page.wait_text(".try-label", lambda text: text == f"{label}{action}")


def paste(page: Visit, value: object) -> None:
    """Use JSON as the row."""
    page.type("#try-json", value if isinstance(value, str) else json.dumps(value))
    page.click("#try-json-use")


def test_a_known_row_is_answered(page: Visit, pictures: "Gateway") -> None:
    """A click on a known row shows the answer: label, probabilities, set, each guard's p-value and threshold."""
    opened(page, pictures)
    page.click(".try-known:nth-child(2)")
    page.wait("document.querySelectorAll('.ladder-threshold').length === 2")
    (said,) = pictures.predict(sent(page)["instances"], parameters={"detail": True})
    answered(page, said["label"], said["action"])
    shown = page.value("[...document.querySelectorAll('.try-bars tr th')].map((each) => each.textContent)")
    assert shown == sorted(said["probabilities"], key=said["probabilities"].get, reverse=True)
    labels = page.value("[...document.querySelectorAll('.ladder')].map((each) => each.getAttribute('aria-label'))")
    assert [float(label.rpartition(" ")[2]) for label in labels] == pytest.approx(
        [guard["p_value"] for guard in said["guards"].values()], rel=0.01
    )
    assert "flags at" in page.text(".try-p")
    assert set(page.value("[...document.querySelectorAll('.try-known')].map((e) => !!e.querySelector('canvas'))")) == {
        True
    }
    assert not page.complaints()
    assert all(url.startswith((pictures.url, "data:", "about:")) for url in page.requests())


def test_an_image_file_is_sent_as_it_is(page: Visit, pictures: "Gateway", tmp_path: Path) -> None:
    """A file of the model's size is sent as it is; it may be chosen or dropped."""
    pixels = images(np.array([1]), 3)[0].transpose(1, 2, 0)
    (file := tmp_path / "green.png").write_bytes(png(pixels=pixels.copy()))
    opened(page, pictures)
    page.upload("#try-file", [file])
    answered(page, "green", "allow")
    coded = base64.b64encode(file.read_bytes()).decode()
    assert sent(page)["instances"] == [{"b64": coded}]
    assert page.text("#try-words") == "Green.png, as it is."
    page.click(".try-known")
    page.wait_text("#try-words", lambda text: text == "Known row 1")
    page.value(
        f"{{ const carried = new DataTransfer(), bytes = Uint8Array.from(atob('{coded}'), (c) => c.charCodeAt(0));"
        "carried.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }));"
        "document.querySelector('.try-drop').dispatchEvent("
        "new DragEvent('drop', { dataTransfer: carried, bubbles: true, cancelable: true })); }"
    )
    page.wait_text("#try-words", lambda text: "ropped.png" in text)
    answered(page, "green", "allow")
    assert sent(page)["instances"] == [{"b64": coded}]


def test_a_picture_of_another_size_is_fitted(page: Visit, pictures: "Gateway", tmp_path: Path) -> None:
    """The page makes a picture of the model's size of a larger one, says so, and sends a PNG that the server takes."""
    large = np.zeros((60, 90, 3), dtype=np.uint8)
    large[..., 2] = 200
    (file := tmp_path / "sky.png").write_bytes(png(pixels=large))
    opened(page, pictures)
    page.upload("#try-file", [file])
    page.wait("document.querySelector('.try-label')?.textContent.startsWith('blue')")
    assert "with 3 channels of it" in page.text("#try-words")


def test_a_file_of_other_channels_is_refused_and_can_be_fitted(
    page: Visit, pictures: "Gateway", tmp_path: Path
) -> None:
    """The server refuses a grey file; the page shows the server's sentence, and offers to fit the picture."""
    (file := tmp_path / "grey.png").write_bytes(png(pixels=np.full((6, 8), 90, dtype=np.uint8)))
    opened(page, pictures)
    page.upload("#try-file", [file])
    page.wait_text(ALERT, lambda text: "expected 8 x 6 pixels with 3 channels" in text)
    page.click("#try-fit")
    page.wait("!!document.querySelector('.try-label')")
    assert not page.text(ALERT)
    (file := tmp_path / "text.png").write_bytes(b"no image")
    page.upload("#try-file", [file])
    page.wait_text(ALERT, lambda text: "is no image that this browser can read" in text)


def test_a_nudged_image_is_judged_live(page: Visit, pictures: "Gateway") -> None:
    """Each move of a slider is answered, beside the p-values before the change; the way back leads to the row."""
    opened(page, pictures)
    page.click(".try-known")
    page.wait("!!document.querySelector('.try-guard')")
    known = sent(page)["instances"]
    for name, size in (("noise", "0.5"), ("blur", "3"), ("brightness", "0.6")):
        before = sent(page)
        page.type(f"#try-{name}", size)
        until(lambda: page.value("true") and sent(page) != before)  # noqa: B023 - each is called in its own turn
        page.wait("document.querySelectorAll('.ladder-before').length === 2")
        assert page.text("#try-words") == "Known row 1, changed"
        assert list(sent(page)["instances"][0]) == ["b64"]
    page.wait("!!document.querySelector('.try-guard.flags')")
    page.click("#try-back")
    page.wait("!document.querySelector('.ladder-before')")
    assert sent(page)["instances"] == known


def test_the_request_is_copied(page: Visit, pictures: "Gateway") -> None:
    """The button copies the text; if the browser keeps the clipboard closed, the text is selected instead."""
    opened(page, pictures)
    page.click(".try-known")
    page.wait("!!document.querySelector('.try-guard')")
    page.value("navigator.clipboard.writeText = async (text) => { globalThis.copied = text; }; true")
    page.click("#try-copy")
    page.wait_text("#try-copied", lambda text: text == "Copied.")
    assert page.value("copied") == page.text("#try-text")
    page.value("navigator.clipboard.writeText = async () => { throw new Error('closed'); }; true")
    page.click("#try-copy")
    page.wait_text("#try-copied", lambda text: "press Ctrl+C" in text)
    assert page.value("getSelection().toString()").strip() == page.text("#try-text").strip()


def test_an_image_is_explained(page: Visit, pictures: "Gateway") -> None:
    """One click shows a heat map over the image, and the nearest rows of the reference as pictures."""
    opened(page, pictures)
    page.click(".try-known")
    page.wait("!!document.querySelector('.try-guard')")
    plain = page.value("document.querySelector('.try-chosen canvas').toDataURL()")
    page.click("#try-explain")
    page.wait("!!document.querySelector('.try-heat canvas')")
    assert page.value("document.querySelector('.try-heat canvas').toDataURL()") != plain
    assert page.value("document.querySelectorAll('.try-neighbours canvas').length") == 3
    assert "Contributions to the logit of label" in page.text("#try-explanation")
    page.type("#try-noise", "0.1")
    page.wait("!document.querySelector('.try-heat')")  # it was an explanation of another image


def test_a_row_of_a_table_is_changed_in_the_form(page: Visit, table: "Gateway") -> None:
    """The form has the row's values; a changed, missing or unseen value is answered live, with causes in words."""
    opened(page, table)
    paste(page, ALLOWED)
    answered(page, "yes", "allow")
    cells = page.value("[...document.querySelectorAll('.try-form input')].map((each) => each.value)")
    assert cells == ["60", "70", "north", "cook", "0.6"]
    age, income, _, job, _ = (f".try-form .try-cell:nth-child({at}) input" for at in range(1, 6))
    page.type(income, "")
    page.wait("!!document.querySelector('.ladder-before')")
    assert sent(page)["instances"] == [ALLOWED | {"income": None}]
    page.type(job, "astronaut")
    page.wait_text(".try-causes", lambda text: "column job" in text)
    page.type(age, "150")
    page.wait_text(".try-causes", lambda text: "column age" in text)
    answered(page, "no answer", "reject")
    page.type(age, "old")
    page.wait_text(ALERT, lambda text: "age" in text and "expected a number" in text)
    page.click("#try-back")
    answered(page, "yes", "allow")
    assert not page.text(ALERT)


def test_a_column_is_moved_by_a_slider(page: Visit, table: "Gateway") -> None:
    """The slider of a column reaches values that the guards refuse, and the form follows."""
    opened(page, table)
    page.click(".try-known")
    page.wait("!!document.querySelector('.try-guard')")
    page.type("#try-column", "0")
    page.type("#try-value", "200")
    answered(page, "no answer", "reject")
    assert sent(page)["instances"][0]["age"] == 180
    assert page.value("document.querySelector('.try-form input').value") == "180"


def test_pasted_json_may_be_a_request(page: Visit, table: "Gateway") -> None:
    """A pasted request brings the groups of its row; text that is no JSON is refused with a sentence."""
    opened(page, table)
    paste(page, {"instances": [ABSTAINED], "groups": {"sex": ["Male"]}})
    answered(page, "no answer", "abstain")
    assert sent(page)["groups"] == {"sex": ["Male"]}
    assert page.value("document.querySelector('#try-group-0').value") == "Male"
    paste(page, "{age")
    page.wait_text(ALERT, lambda text: text.startswith("This is no JSON"))
    paste(page, {"age": 1})
    page.wait_text(ALERT, lambda text: "income: missing column" in text)


def test_a_row_of_a_table_is_explained(page: Visit, table: "Gateway") -> None:
    """One click shows the contribution of each column as a bar, and the nearest rows with their values."""
    opened(page, table)
    paste(page, ALLOWED)
    answered(page, "yes", "allow")
    page.click("#try-explain")
    page.wait("!!document.querySelector('#try-explanation .try-bars')")
    names = page.value("[...document.querySelectorAll('#try-explanation .try-bars th')].map((e) => e.textContent)")
    assert set(names) == set(ALLOWED)
    assert page.value("document.querySelectorAll('.try-neighbours li').length") == 3
    paste(page, REJECTED)
    answered(page, "no answer", "reject")
    page.click("#try-explain")
    page.wait("!document.querySelector('.try-alert').hidden")  # a row without an answer is not explained


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["pictures", "table"])
def test_the_copied_request_runs(page: Visit, request: pytest.FixtureRequest, kind: str, way: str) -> None:
    """The same request as text runs as it is, and gets the same label."""
    if PLAIN and way == "BentoML client":
        pytest.skip("only a server under BentoML has /schema.json, for BentoML's clients")
    gateway: Gateway = request.getfixturevalue(kind)
    opened(page, gateway)
    if kind == "table":
        paste(page, {"instances": [ALLOWED | {"job": None}], "groups": {"sex": ["Female"]}})
    else:
        page.click(".try-known")
        page.wait("!!document.querySelector('.try-guard')")
        page.type("#try-brightness", "0.02")
        page.wait("!!document.querySelector('.ladder-before')")
    page.wait("!!document.querySelector('.try-guard')")
    label = page.text(".try-label strong")
    page.type("#try-way", way)
    done = run(page.text("#try-text"), way)
    assert done.returncode == 0, done.stderr
    if way == "tritonclient":
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
        assert ast.literal_eval(said["label"]) == [label.encode()]
        assert "p_value" in said
    else:
        answer = json.loads(done.stdout) if way == "curl" else ast.literal_eval(done.stdout)
        assert answer["predictions"][0]["label"] == label
        assert answer["predictions"][0]["guards"]


@pytest.mark.parametrize("kind", ["pictures", "table"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_everybody_can_use_the_tab(
    page: Visit, request: pytest.FixtureRequest, kind: str, width: int, scheme: str
) -> None:
    """With an answer and an explanation axe-core finds nothing serious, and nothing is wider than the window."""
    opened(page, request.getfixturevalue(kind), width=width, scheme=scheme)
    page.click(".try-known")
    page.wait("!!document.querySelector('.try-guard')")
    page.click("#try-explain")
    page.wait("document.querySelectorAll('.try-neighbours li').length === 3")
    page.value("document.querySelectorAll('details').forEach((each) => { each.open = true; }); true")
    assert findings(page) == []
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_a_key_without_details_can_try_rows(page: Visit, keyed: Keyed) -> None:
    """Without the scope `detail` the answer has no p-values and says why; the copied request reads the key."""
    page.go(f"{keyed.gateway.url}/console#try")
    page.wait("document.querySelector('#login')?.hidden === false")
    page.type("#key", keyed.key)
    page.click("#login button")
    page.wait("document.querySelectorAll('.try-known').length")
    page.click(".try-known")
    page.wait_text("#try-answer", lambda text: "The server shows no p-values: this key has no scope" in text)
    label = page.text(".try-label strong")
    page.click("#try-explain")
    page.wait_text(ALERT, lambda text: text == "this key has no scope `explain`")
    for way in WAYS[:3] if PLAIN else WAYS:
        page.type("#try-way", way)
        done = run(page.text("#try-text"), way, GUARDHOUSE_KEY=keyed.key)
        assert keyed.key not in page.text("#try-text")
        assert done.returncode == 0, done.stderr
        assert label in done.stdout


def started(page: Visit, gateway: "Gateway", model: dict[str, Any], prediction: dict[str, Any]) -> None:
    """Start the tab beside the real one, with another model and a server that always answers the same."""
    page.go(f"{gateway.url}/console#now")
    page.wait("document.querySelector('#tab-now')?.ariaSelected === 'true'")
    document = {**SIMPLE, "explain": {"methods": []}, "name": "made-up", **model}
    page.settled(
        f"""(async () => {{
            const {{ tab }} = await import(new URL('console/tabs/try.js', document.baseURI).href);
            const element = document.createElement('div');
            document.getElementById('panel').replaceChildren(element);
            globalThis.asked = [];
            tab.start(element, {{
                model: {json.dumps(document)},
                poll: () => () => {{}},
                api: {{
                    get: async () => ({{ thresholds: {{}} }}),
                    post: async (path, body) => {{
                        asked.push(body);
                        return {{ predictions: [{json.dumps(prediction)}] }};
                    }},
                }},
            }});
        }})()"""
    )


def test_two_hundred_columns_have_a_filter(page: Visit, table: "Gateway") -> None:
    """A wide table has groups of columns, of which the first is open, and a filter that opens the others."""
    columns = [
        {"name": f"column {at}", "kind": "numeric", "minimum": None, "maximum": None, "categories": None, "fill": at}
        for at in range(200)
    ]
    rows = {"kind": "tabular", "shape": [200], "columns": columns, "spread": None}
    started(page, table, {"classes": [], "rows": rows}, {"value": 3.25, "interval": [1, 5.5], "action": "allow"})
    assert page.value("document.querySelectorAll('.try-form details').length") == 10
    assert page.value("document.querySelectorAll('.try-form details[open]').length") == 1
    page.type(".try-form input[type=search]", "column 19")
    assert (
        page.value("[...document.querySelectorAll('.try-cell')].filter((each) => each.checkVisibility()).length") == 11
    )
    page.click("#try-predict")
    page.wait_text(".try-headline", lambda text: "3.25" in text and "Interval: 1 to 5.5" in text)
    assert page.value("asked[0].instances[0]['column 199']") == 199
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_a_thousand_labels_and_a_tensor(page: Visit, table: "Gateway") -> None:
    """Of many labels the ten most probable are asked for and shown; a tensor has a field for each value."""
    classes = [f"label {at}" for at in range(1000)]
    likely = dict.fromkeys(classes[:10], 0.1)
    set_ = {"prediction_set": classes[:100], "prediction_set_size": 321}
    said = {"label": "label 7", "action": "flag", "reasons": ["ood"], "probabilities": likely, **set_}
    rows = {"kind": "tensor", "shape": [4], "columns": [], "spread": [0, 1]}
    started(page, table, {"classes": classes, "rows": rows}, said)
    page.type(".try-form .try-cell:nth-child(2) input", "0.75")
    page.click("#try-predict")
    page.wait_text(".try-answer", lambda text: "the 10 most probable of 1000" in text and "and 301 more" in text)
    asked = page.value("asked[0]")
    assert asked == {"instances": [[0.5, 0.75, 0.5, 0.5]], "parameters": {"detail": True, "top_k": 10}}
