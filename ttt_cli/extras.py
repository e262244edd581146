"""
Which extra of the package brings which module: what to install when a module is missing.

Depends on names of modules and extras only; imports none of them.
"""

# Extra -> the modules that it brings and that this project imports; a test holds it equal to `pyproject.toml`.
MODULES = {
    "finetune": (
        "accelerate",
        "av",
        "datasets",
        "filelock",
        "jiwer",
        "matplotlib",
        "peft",
        "psutil",
        "pyarrow",
        "rapidfuzz",
        "tensorboard",
        "tqdm",
    ),
    "demo": ("av", "gradio", "mcp", "silero_vad", "websockets"),
    "ray": ("ray",),
    "edge": ("onnx", "onnx_ir", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "numbers": ("wetext",),
    "mic": ("sounddevice",),
    "nano": ("pocketsphinx", "torchaudio"),
    "quantized": ("bitsandbytes", "torchao"),
}


def way_out(error: ImportError) -> str:
    """
    Name what to install, if the missing module belongs to an extra.

    Args:
        error (`ImportError`): Of an import, here or in a library; the errors that led to it are looked through, too.

    Returns:
        `str`: One sentence; the error's own words if they name what to install already, or if it is not about an
        optional dependency.
    """
    cause: BaseException | None = None if "pip install" in str(error) else error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            module = cause.name.partition(".")[0]
            for extra, modules in MODULES.items():
                if module in modules:
                    return f'This needs {module}, which is not installed: pip install "text-to-talk[{extra}]".'
        cause = cause.__cause__ or cause.__context__
    return str(error)
