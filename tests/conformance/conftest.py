"""Sets torch to one thread, so that the checks neither wait for one another nor round differently."""

import torch

torch.set_num_threads(1)
