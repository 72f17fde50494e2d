"""The import graph of the code: no module imports itself by way of others."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = ("guards", "service")


def test_no_modules_import_one_another_in_a_circle() -> None:
    """No chain of imports leads from a module of guards or service back to it, however late the imports are made."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert {module.partition(".")[0] for module in imports} == set(PACKAGES)
    assert sum(map(len, imports.values())) > len(imports)
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' <- '.join(circle.args[1])}")
