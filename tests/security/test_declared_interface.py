"""What schemathesis sends after reading `/openapi.json` gets the answers that the document declares.

Every check of schemathesis that applies runs on every operation. JSON Schema cannot say everything of a request, so a
request that follows the schema may still be refused (`BEYOND_SCHEMA` says where and why). Everything else is a fault of
the server or of its document.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from example_folders import IMAGE_CONFIG
from fresh_client import FRESH
from gateways import STALL_SECONDS, clean_environment

from service.keys.key_file import add_key
from service.keys.principal import SCOPES

if TYPE_CHECKING:
    from conftest import Bundles
    from gateways import Gateway

SEED = 1
QUICK, LONG = (3, "examples,fuzzing"), (150, "examples,coverage,fuzzing,stateful")
"""How many requests are made for each operation, and in which phases."""
BEYOND_SCHEMA = {
    ":predict|^/predict": ["413", "422"],  # a body has few bytes; ids and groups: as many as instances
    ":explain": ["413", "422"],  # the same; a target that the method can explain; few rows for a picture
    "/monitors:": ["422"],  # a reason is printable, which Unicode knows and no pattern says; the monitor's kind fits
    "/v1/explanations/": ["422"],  # what the job has found: its row has no answer that could be explained
    ":feedback": ["413", "422"],  # a body has few bytes; an outcome fits the model's task
    # a body has few bytes; the bytes of a binary request follow its head, and a tensor's data follows its shape
    "/infer": ["400", "413", "422"],
}
"""Operations that may refuse a request that follows its schema, with what status, and what no schema can say."""
GENERAL = """
[generation]
with-security-parameters = false  # a second key beside the caller's own is refused, which OpenAPI cannot say

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
"""
"""413 is also how too long a list is refused; the other statuses are schemathesis's own."""
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "missing_required_header",
    "unsupported_method", "allow_header_conformance", "use_after_free", "ensure_resource_availability",
    "ignored_auth",
]  # fmt: skip
"""All checks but one: `object_level_authorization` asks one user for another's objects, and finds them by links, which
the document does not have. `tests/e2e/test_keys.py` asks for them by hand."""
EFFORTS = [pytest.param(QUICK, id="quick"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]


def schemathesis(
    gateway: "Gateway", folder: Path, effort: tuple[int, str], key: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Let schemathesis read the document of a server, and ask the server."""
    accepted = ["2xx", "401", "403", "404", "409", "429", "5xx"]
    operations = "".join(
        f'\n[[operations]]\ninclude-path-regex = "{path}"\n'
        f"checks.positive_data_acceptance.expected-statuses = {[*accepted, *statuses]!r}\n"
        for path, statuses in BEYOND_SCHEMA.items()
    )
    config = folder / "schemathesis.toml"
    config.write_text(GENERAL + operations, encoding="utf-8")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", f"{gateway.url}/openapi.json",
        "--checks", ",".join(CHECKS), "--max-examples", effort[0], "--phases", effort[1], "--seed", SEED,
        "--request-timeout", "120",
        "--no-color", "--suppress-health-check", "all", "--warnings", "off",
        *([] if key is None else ["--header", f"Authorization: Bearer {key}"]),
    ]  # fmt: skip
    found = subprocess.run(
        list(map(str, command)), cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
    )
    print(found.stdout.rpartition(" SUMMARY ")[2])  # noqa: T201
    return found


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("model", ["table", "images", "values"])
def test_a_server_is_as_its_document_says(
    model: str, effort: tuple[int, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Requests that follow the document, and requests that break it in one place, get the answers that it declares."""
    gateway: Gateway = request.getfixturevalue(model)
    found = schemathesis(gateway, tmp_path, effort)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("route", ["/predict", ":predict", ":explain", ":feedback", "/infer"])
def test_a_body_is_too_large_by_its_bytes_alone(route: str, images: "Gateway") -> None:
    """One document, with more space around it, is answered as before up to the limit, and with 413 beyond it."""
    limit = IMAGE_CONFIG["server"]["max_body_bytes"]
    path = {"/predict": route, "/infer": f"/v2/models/{images.name}{route}"}.get(
        route, f"/v1/models/{images.name}{route}"
    )
    document = {":feedback": b'{"outcomes": []}', "/infer": b'{"inputs": []}'}.get(route, b'{"instances": []}')

    def status(size: int) -> int:
        body = document.ljust(size)
        head = {"Content-Type": "application/json"}
        return FRESH.post(images.url + path, content=body, headers=head, timeout=STALL_SECONDS).status_code

    short = status(len(document))
    assert short in {200, 400, 422}
    assert [status(limit), status(limit + 1)] == [short, 413]


@pytest.fixture(scope="module")
def guarded(bundles: "Bundles", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[tuple[Gateway, str]]":
    """Serve the classifier of a table to those who have a key, and make a key that may do everything."""
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    key = add_key(file, "tester", list(SCOPES))
    gateway = bundles.serve("table", GUARDHOUSE_API_KEYS_FILE=str(file)).wait_ready()
    gateway.expected += ["monitors: tester asked for", "was reset"]
    yield gateway, key
    gateway.stop()


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_server_with_keys_is_as_its_document_says(
    guarded: "tuple[Gateway, str]", effort: tuple[int, str], tmp_path: Path
) -> None:
    """The same holds with a key; without the key, or with another key, every operation but the probes is refused."""
    gateway, key = guarded
    found = schemathesis(gateway, tmp_path, effort, key)
    assert found.returncode == 0, found.stdout + found.stderr
