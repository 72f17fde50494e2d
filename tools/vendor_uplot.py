"""Write the files of uPlot that the console's page loads: from npm's registry, unchanged, and the same bytes each time.

Needs npm, which neither the server nor its tests need. A test compares the files with the sums below.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "1.6.32"
FOLDER = Path(__file__).resolve().parent.parent / "service" / "front" / "console" / "page" / "vendor"
SHA256 = {
    "dist/uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "dist/uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""The SHA-256 of each file that is kept, by its path in the package."""


def main() -> None:
    """Fetch the package, and write its files if their sums are known."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", f"uplot@{VERSION}", "--pack-destination", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - a command of ours
        with tarfile.open(Path(folder) / f"uplot-{VERSION}.tgz") as package:
            contents = {name: package.extractfile(f"package/{name}") for name in SHA256}
            files = {name: b"" if content is None else content.read() for name, content in contents.items()}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            sys.exit(f"uplot {VERSION}: {name} is not the file that this project uses; nothing was written")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (FOLDER / Path(name).name).write_bytes(content)
    sys.stdout.write(f"{FOLDER}: uPlot {VERSION}\n")


if __name__ == "__main__":
    main()
