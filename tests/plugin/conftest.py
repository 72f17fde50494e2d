"""The example package is importable here; its entry point is there only where a test installs it."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent / "guardhouse_example" / "src"))
torch.set_num_threads(1)
