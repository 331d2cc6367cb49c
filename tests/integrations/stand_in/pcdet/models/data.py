"""Arrays to tensors; the stand-in stays on the CPU."""

import numpy as np
import torch


def load_data_to_gpu(batch_dict):
    for key, value in batch_dict.items():
        if isinstance(value, np.ndarray) and key not in ("frame_id", "metadata", "calib"):
            batch_dict[key] = (
                torch.from_numpy(value).int()
                if key == "image_shape"
                else torch.from_numpy(value).float()
            )
