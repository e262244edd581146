"""
The most memory that this process has used so far.

Knows the operating system and the GPU. Knows no models.
"""

import sys

import torch


def peak_memory() -> int:
    """
    Ask for the peak.

    Returns:
        `int`: Bytes: what PyTorch has allocated on the GPU if there is one, else what the process has had in memory.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
