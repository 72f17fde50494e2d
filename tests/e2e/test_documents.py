"""The documents in which the server describes its own interface."""

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from example_folders import ALLOWED, COLOURS
from fresh_client import FRESH
from gateways import NEEDS_BENTOML
from jsonschema import ValidationError
from openapi_spec_validator import validate

if TYPE_CHECKING:
    from gateways import Gateway

GATEWAYS = pytest.mark.parametrize("gateway", ["table", "images", "values"])


def named(gateway: str, request: pytest.FixtureRequest) -> "Gateway":
    """Start the server of that name, if it is not running."""
    server: Gateway = request.getfixturevalue(gateway)
    return server


@GATEWAYS
def test_openapi_document_is_valid(gateway: str, request: pytest.FixtureRequest) -> None:
    """The document is OpenAPI 3.1 by the validator's own rules."""
    document = named(gateway, request).client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    validate(document)


@GATEWAYS
def test_every_declared_path_answers(gateway: str, request: pytest.FixtureRequest) -> None:
    """Every path and method of the document is there, and none answers what it does not declare."""
    server = named(gateway, request)
    for path, operations in server.openapi["paths"].items():
        for method, operation in operations.items():
            response = server.client.request(method.upper(), path, content=b"{}" if method == "post" else None)
            asks = method == "post" and path != "/v2/repository/index"  # whose body may be empty
            absent = "{id}" in path or "/monitors:" in path  # a server without keys has no admin
            expected = 404 if absent else 422 if asks else 200
            assert response.status_code == expected, (method, path)
            assert str(response.status_code) in operation["responses"]


def test_request_schema_takes_what_the_server_takes(table: "Gateway") -> None:
    """Bodies that the server refuses for their form are refused by the declared schema too."""
    place = ("paths", "/predict", "post", "requestBody", "content", "application/json", "schema")
    refused: list[dict[str, Any]] = [
        {},
        {"instances": []},
        {"instances": [5]},
        {"instances": [ALLOWED | {"age": "1"}]},
        {"instances": [ALLOWED | {"age": True}]},
        {"instances": [ALLOWED | {"extra": 1}]},
        {"instances": [{"age": 1}]},
        {"instances": [[1, 2]]},
        {"instances": [ALLOWED], "ids": [""]},
        {"instances": [ALLOWED], "groups": {"race": ["x"]}},
        {"instances": [ALLOWED], "parameters": {"detail": 1}},
        {"instances": [ALLOWED], "more": 1},
    ]
    for body in refused:
        assert table.post(body).status_code == 422
        with pytest.raises(ValidationError):
            table.validate(body, *place)


def test_labels_and_columns_are_declared(table: "Gateway", images: "Gateway") -> None:
    """The document is made of the fitted schema: columns and labels are in it by name."""
    assert '"enum": ["no", "yes", null]' in json.dumps(table.openapi)
    for column in ALLOWED:
        assert f'"{column}"' in json.dumps(table.openapi["paths"]["/predict"])
    for colour in COLOURS:
        assert f'"{colour}"' in json.dumps(images.openapi["paths"]["/predict"])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"} and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_docs_are_for_people(table: "Gateway") -> None:
    """The page names every path, and loads nothing from anywhere else."""
    response = table.client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = _Page()
    page.feed(response.text)
    for path in table.openapi["paths"]:
        assert path in page.text
    assert page.links == ["/openapi.json"]
    assert not {"script", "link", "img", "iframe"} & set(page.tags)


@NEEDS_BENTOML
def test_bentoml_schema_is_served(table: "Gateway") -> None:
    """BentoML's own clients find the schema of the one endpoint."""
    document = FRESH.get(f"{table.url}/schema.json").json()
    assert [route["route"] for route in document["routes"]] == ["/predict"]
