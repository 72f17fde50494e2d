"""Computes the scores of an online detector of alibi-detect, and of the detector that is rebuilt from its tensors.

The interpreter that has alibi-detect runs this file: ``online_scores.py ROOT FOLDER`` reads ``task.json`` and
``arrays.npz``.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, sys.argv[1])

import torch

from guards.monitors.alibi import drift_tests as alibi

folder = Path(sys.argv[2])
given = json.loads((folder / "task.json").read_text())
task, configuring_seed = given["task"], given["configuring_seed"]
with np.load(folder / "arrays.npz") as stored:
    arrays = dict(stored)
with alibi._run(task["seed"]) as cd:
    encoded = alibi._encoded(task, arrays, "reference")
    torch.manual_seed(configuring_seed)
    original = alibi._online(cd, task, encoded)
    restored = alibi._online(cd, task, encoded, arrays)
    rows = alibi._encoded(task, arrays, "window")[:30]
    scores = [
        [float(np.nanmax(np.nan_to_num(detector.score(row), nan=-9.0))) for row in rows]
        for detector in (original, restored)
    ]
thresholds = [np.asarray(detector.thresholds).tolist() for detector in (original, restored)]
sys.stdout.write(json.dumps({"scores": scores, "thresholds": thresholds}))
