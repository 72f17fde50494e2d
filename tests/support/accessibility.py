"""Asks axe-core what keeps people from using a page, such as a control without a name, or a text without contrast."""

import json
from pathlib import Path
from typing import Any

import axe_core_python
from visited_page import Visit

__all__ = ["findings"]

AXE = Path(axe_core_python.__file__).with_name("axe.min.js")
SEVERE = ("serious", "critical")


def findings(page: Visit) -> list[str]:
    """Give every serious or critical finding of axe-core in the page as it is now, with the elements."""
    page.value(f"{AXE.read_text(encoding='utf-8')};true")
    found: dict[str, Any] = json.loads(page.settled("axe.run(document).then((all) => JSON.stringify(all.violations))"))
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in SEVERE
    ]
