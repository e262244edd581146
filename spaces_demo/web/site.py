"""
Write the page that talks without a server: `ttt demo --web OUT`.

    OUT/index.html, *.js, page.css   the page
    OUT/vendor/                      the npm packages that package-lock.json pins: onnxruntime-web and a tokenizer
    OUT/model/                       graphs, tokenizer and settings of a checkpoint; large files are compressed by gzip
    OUT/README.md                    with the front matter of a static Space

Depends on npm, and on the extra `edge` where the model is not exported yet. Independent of Gradio and of servers.
"""

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .settings import decoding_options, settings

HERE = Path(__file__).parent
SHARED = HERE.parent / "page" / "static"
SHARED_SCRIPTS = ("player.js", "microphone.js")
PACKAGE_FILES = ("package.json", "package-lock.json")
VENDORED = {
    "ort.wasm.min.mjs": "onnxruntime-web/dist",
    "ort-wasm-simd-threaded.mjs": "onnxruntime-web/dist",
    "ort-wasm-simd-threaded.wasm": "onnxruntime-web/dist",
    "tokenizers.min.mjs": "@huggingface/tokenizers/dist",
}
MANIFEST = "onnx/manifest.json"
GRAPHS = ("onnx/model.onnx", "onnx/model.onnx.data", "onnx/codec_encoder.onnx", "onnx/codec_decoder.onnx")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
COMPRESSED = (".wasm", ".onnx", ".data", "tokenizer.json")  # endings of names
README = """---
title: Text-to-Talk without a server
emoji: 💬
colorFrom: purple
colorTo: green
sdk: static
license: apache-2.0
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
  cross-origin-resource-policy: same-origin
---

A model that writes text token by token and speaks by denoising blocks of audio, in your browser: questions and
answers stay on your device. Serve this folder from https or from localhost:

    python -m http.server --directory . 8000

Written by `ttt demo --web`, of the project Text-to-Talk. `vendor/` holds ONNX Runtime Web (MIT licence, Microsoft) and
@huggingface/tokenizers (Apache 2.0 licence, Hugging Face).
"""


def write_site(output: Path, model: str | os.PathLike) -> int:
    """
    Write the page with a checkpoint.

    Args:
        output (`Path`): New or empty folder.
        model (`str` or `os.PathLike`): Folder or Hub id of a checkpoint, which is exported in int8, or folder of an
            export, which is taken as it is.

    Returns:
        `int`: Bytes that a visitor downloads.

    Raises:
        FileExistsError: The folder is not empty.
        FileNotFoundError: npm is not installed.
        ImportError: The packages of the extra `edge` are missing.
        RuntimeError: npm fails.
        ValueError: The page cannot run this checkpoint.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{str(output)!r} is not empty: choose a new folder.")
    is_exported = Path(model, MANIFEST).is_file()
    if not is_exported and importlib.util.find_spec("onnxscript") is None:
        raise ImportError('The page needs an export of the model: `pip install "text-to-talk[edge]"`.')
    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch, "site")
        shutil.copytree(HERE / "static", site)
        for name in SHARED_SCRIPTS:
            shutil.copyfile(SHARED / name, site / name)
        (site / "README.md").write_text(README, encoding="utf-8")
        packages = install_packages(Path(scratch, "npm"))
        for name, folder in VENDORED.items():
            put(packages / folder / name, site / "vendor" / name)
        export = Path(model) if is_exported else export_model(model, Path(scratch, "export"))
        write_model(export, site / "model")
        size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
        page = site / "index.html"
        page.write_text(page.read_text(encoding="utf-8").replace("{bytes}", str(size)), encoding="utf-8")
        shutil.copytree(site, output, dirs_exist_ok=True)
    return size


def install_packages(folder: Path) -> Path:
    """
    Install the npm packages of `package-lock.json`, without running their scripts.

    Args:
        folder (`Path`): New folder.

    Returns:
        `Path`: `node_modules`.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("The page needs npm, which is not installed: get Node from https://nodejs.org.")
    folder.mkdir(parents=True)
    for name in PACKAGE_FILES:
        shutil.copyfile(HERE / name, folder / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603 - our own arguments
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), "no reason given")
        raise RuntimeError(f"npm cannot install the packages of the page ({reason}): is its registry in reach?")
    return folder / "node_modules"


def export_model(model: str | os.PathLike, folder: Path) -> Path:
    """
    Export a checkpoint that the page can run, in int8.

    Args:
        model (`str` or `os.PathLike`): Folder or Hub id.
        folder (`Path`): New folder.

    Returns:
        `Path`: The folder.
    """
    import torch
    from transformers import AutoProcessor

    from modeling_ttt import TttForConditionalGeneration
    from processing_ttt.codec_ttt import TttCodecModel
    from processing_ttt.loading_faults_ttt import load_whole
    from text_to_talk.export import export_checkpoint

    loaded = load_whole(TttForConditionalGeneration, model, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(model)
    if not isinstance(processor.codec, TttCodecModel):
        raise ValueError("The page runs nano's kind of codec, this checkpoint has another one: use `ttt demo`.")
    decoding_options(loaded.config, loaded.generation_config)  # what the page does not have is refused before the work
    export_checkpoint(loaded, processor, folder, "int8")
    return folder


def write_model(export: Path, folder: Path) -> None:
    """
    Write the files of an export that the page reads, and its settings.

    Args:
        export (`Path`): Folder of the export.
        folder (`Path`): New folder.

    Raises:
        ValueError: The export is damaged, has no codec, or cannot be run by the page.
    """
    from transformers import AutoProcessor, GenerationConfig

    import processing_ttt  # noqa: F401 - registers the processor
    from modeling_ttt import TttConfig
    from modeling_ttt.export_manifest_ttt import check_files, manifest_digests, read_manifest

    config, generation = TttConfig.from_pretrained(export), GenerationConfig.from_pretrained(export)
    manifest = read_manifest(export / MANIFEST, config)
    if "codec" not in manifest:
        raise ValueError(f"{str(export)!r} has no graphs of a codec: export it again with `ttt export`.")
    check_files(export, dict.fromkeys((*GRAPHS, *TOKENIZER)) | manifest_digests(manifest, Path(MANIFEST).parent.name))
    known = settings(config, generation, AutoProcessor.from_pretrained(export), manifest["codec"])
    for name in (*GRAPHS, *TOKENIZER):
        put(export / name, folder / name)
    (folder / "settings.json").write_text(json.dumps(known), encoding="utf-8")


def put(source: Path, target: Path) -> None:
    """Copy a file, a large one compressed: to `target` with `.gz` behind its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.name.endswith(COMPRESSED):
        target.with_name(target.name + ".gz").write_bytes(gzip.compress(source.read_bytes(), mtime=0))
    else:
        shutil.copyfile(source, target)
