"""build_network, and what a training step is."""

from .data import load_data_to_gpu
from .detectors import DETECTORS


def build_network(model_cfg, num_class, dataset):
    """The detector that MODEL.NAME names."""
    detector_class = DETECTORS[model_cfg.NAME]
    return detector_class(model_cfg=model_cfg, num_class=num_class, dataset=dataset)


def model_fn_decorator():
    """The function that the training loop calls for each batch."""

    def model_func(model, batch_dict):
        load_data_to_gpu(batch_dict)
        ret_dict, tb_dict, disp_dict = model(batch_dict)
        loss = ret_dict["loss"].mean()
        detector = model if hasattr(model, "update_global_step") else model.module
        detector.update_global_step()
        return loss, tb_dict, disp_dict

    return model_func
