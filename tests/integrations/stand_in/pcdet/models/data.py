"""Arrays to tensors; the stand-in stays on the CPU."""

import numpy as np
import torch


def load_data_to_gpu(batch_dict):
    """Replace arrays by tensors, in place."""
    for key, value in batch_dict.items():
        if not isinstance(value, np.ndarray) or key in ("frame_id", "metadata", "calib"):
            continue
        tensor = torch.from_numpy(value)
        batch_dict[key] = tensor.int() if key == "image_shape" else tensor.float()
