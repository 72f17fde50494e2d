"""Every fault on the page of faults has a test that exists."""

import ast
import re

from gateways import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py):(test_\w+)`")


def test_every_fault_has_a_test() -> None:
    """The last cell of each row names at least one test, and each named test is in the file."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]
    assert len(rows) > 20
    for row in rows:
        named = TEST.findall(row.rstrip("| ").rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)
