"""checkov over every build: no check fails, and every check that is skipped says why."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from manifests import BUILDS, DEPLOY, ROOT, rendered

OWN = ROOT / ".venv-checkov" / "bin" / "checkov"
CHECKOV = Path(os.environ.get("GUARDHOUSE_CHECKOV", OWN))

pytestmark = [
    pytest.mark.skipif(
        not CHECKOV.is_file(), reason="no checkov: `make test-deploy`, or name one in GUARDHOUSE_CHECKOV"
    ),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"),
]


def test_no_check_fails(tmp_path: Path) -> None:
    """Every build, and the pod that is applied by hand, pass each of checkov's checks or say why they do not."""
    # Once each: most objects are the same in many builds.
    texts = {yaml.safe_dump(each) for build in BUILDS for each in rendered(build)}
    (tmp_path / "builds.yaml").write_text("---\n".join(sorted(texts)))
    shutil.copy(DEPLOY / "loader.yaml", tmp_path)
    command = [CHECKOV, "--framework", "kubernetes", "--skip-download", "--output", "json", "--directory", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["results"]
    failed = {f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in results["failed_checks"]}
    assert not failed
    assert len(results["passed_checks"]) > 10 * len(texts), "it has not looked at all of them"
    assert all(each["check_result"]["suppress_comment"] for each in results["skipped_checks"])
