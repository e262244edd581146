"""
Number formats of the machine, and the memory that this process has used.

Depends on the operating system, the CPU and the GPU. Independent of models.
"""

import re
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """
    Ask for the most memory that this process has used so far.

    Returns:
        `int`: Bytes: what PyTorch has allocated on the GPU if there is one, else what the process has had in memory.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return _peak_of_linux() or _peak_elsewhere()


def _peak_of_linux() -> int | None:
    """Read the kernel's own mark: `ru_maxrss` there also remembers the process that started this one."""
    if not STATUS.is_file():
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _peak_elsewhere() -> int:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def computes_bfloat16(device: str | None = None) -> bool:
    """
    Ask whether bfloat16 is faster than float32: on a GPU, and on a CPU that has kernels for it. Others compute it in
    a slow way.

    Args:
        device (`str`, *optional*): "cpu" or "cuda"; by default the GPU if there is one.

    Returns:
        `bool`
    """
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
