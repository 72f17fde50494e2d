"""The tool checkov finds no fault in any build or in the image, and every skipped check has a reason."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from manifests import BUILDS, BY_HAND, DEPLOY, ROOT, rendered

OWN = ROOT / ".venv-checkov" / "bin" / "checkov"
CHECKOV = Path(os.environ.get("GUARDHOUSE_CHECKOV", OWN))

pytestmark = [
    pytest.mark.skipif(
        not CHECKOV.is_file(), reason="no checkov: `make test-deploy`, or name one in GUARDHOUSE_CHECKOV"
    ),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is absent"),
]


def checked(framework: str, folder: Path) -> tuple[int, list[str]]:
    """Run a framework's checks over a folder; count what passes, name what fails or is skipped without a reason."""
    command = [CHECKOV, "--framework", framework, "--skip-download", "--output", "json", "--directory", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["results"]
    wanting = [each for each in results["skipped_checks"] if not each["check_result"]["suppress_comment"]]
    return len(results["passed_checks"]), [
        f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in (*results["failed_checks"], *wanting)
    ]


def test_no_check_of_a_manifest_fails(tmp_path: Path) -> None:
    """Every build, and the objects that are applied by hand, pass each of checkov's checks or say why they do not."""
    # Once each: most objects are the same in many builds.
    texts = {yaml.safe_dump(each) for build in BUILDS for each in rendered(build)}
    (tmp_path / "builds.yaml").write_text("---\n".join(sorted(texts)))
    for path in BY_HAND:
        shutil.copy(path, tmp_path)
    passed, failed = checked("kubernetes", tmp_path)
    assert not failed
    assert passed > 10 * len(texts), "it has not looked at all of them"


def test_no_check_of_the_image_fails(bento: Path, tmp_path: Path) -> None:
    """The generated Dockerfile, and the one for a bundle, pass each of checkov's checks."""
    shutil.copy(DEPLOY / "image" / "bundle.Dockerfile", tmp_path / "Dockerfile")
    for folder in (bento / "env" / "docker", tmp_path):
        passed, failed = checked("dockerfile", folder)
        assert not failed
        assert passed
