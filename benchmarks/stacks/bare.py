"""What a user would write without a gateway: BentoML's own batching API around the model, unguarded."""

import bentoml
import numpy as np
import torch

from benchmarks.stacks.cnn import build


@bentoml.service(name="Bare", workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Bare:
    """One model, one batchable method."""

    def __init__(self) -> None:
        self.model = build()

    @bentoml.api(batchable=True, max_batch_size=64)  # type: ignore[untyped-decorator]  # BentoML has no types
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """Answer probabilities (n, 10)."""
        with torch.inference_mode():
            return torch.softmax(self.model(torch.from_numpy(instances.astype(np.float32))), dim=1).numpy()
