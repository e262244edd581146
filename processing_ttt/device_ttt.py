"""The default device of a model: the meaning of `--device auto`, for every command and for the demo."""

import torch


def choose_device(device: str | torch.device | None = "auto") -> str | torch.device:
    """
    Resolve the name of a device.

    Args:
        device (`str` or `torch.device`, *optional*, defaults to `"auto"`): A device name of PyTorch (`cpu`, `cuda`,
            `cuda:1`, `mps`), or `auto`; `None` is `auto`.

    Returns:
        `str` or `torch.device`: The device as given; for `auto` the CUDA GPU if there is one, else Apple's (`mps`),
        else the CPU.

    Raises:
        ValueError: If it is a GPU that PyTorch does not find.
    """
    if device is not None and device != "auto":
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"The device {str(device)!r} cannot be used: PyTorch finds no CUDA GPU; use cpu, or auto.")
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
