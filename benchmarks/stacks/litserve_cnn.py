"""What a user of LitServe would write: its API class around the same model, unguarded, batched by LitServe."""

import sys

import litserve
import numpy as np
import torch

from benchmarks.stacks.cnn import build

MAX_BATCH_ROWS, MAX_BATCH_SECONDS = 64, 0.005
"""As for MLServer."""


class Cnn(litserve.LitAPI):  # type: ignore[misc]  # it is installed in an environment of its own
    """One model, one predict method."""

    def setup(self, device: str) -> None:
        """Make the network."""
        self.net = build().to(device)

    def decode_request(self, request: dict[str, list[object]]) -> torch.Tensor:
        """Read one row (1, 28, 28)."""
        return torch.from_numpy(np.array(request["instances"][0], dtype=np.float32))

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Answer probabilities (n, 10)."""
        with torch.inference_mode():
            return torch.softmax(self.net(x), dim=1)

    def encode_response(self, output: torch.Tensor) -> dict[str, list[float]]:
        """Write the probabilities (10,) of one row."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Cnn(max_batch_size=MAX_BATCH_ROWS, batch_timeout=MAX_BATCH_SECONDS)
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
