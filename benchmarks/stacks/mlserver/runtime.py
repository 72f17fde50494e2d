"""What a user of MLServer would write: its runtime class around the same model, unguarded, batched by MLServer."""

import numpy as np
import torch
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.stacks.cnn import build


class Cnn(MLModel):  # type: ignore[misc]  # it is installed in an environment of its own
    """One model, one predict method."""

    async def load(self) -> bool:
        """Make the network."""
        self.net = build()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer probabilities (n, 10)."""
        given = payload.inputs[0]
        rows = torch.from_numpy(np.array(given.data, dtype=np.float32).reshape(given.shape))
        with torch.inference_mode():
            probabilities = torch.softmax(self.net(rows), dim=1)
        shape = list(probabilities.shape)
        output = ResponseOutput(name="probabilities", shape=shape, datatype="FP32", data=probabilities.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])
