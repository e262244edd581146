"""
The codec of a processor: located by name, loaded once on first use, from any thread.

A codec is a subfolder of the checkpoint, or a folder or Hub repository of its own. Of the codecs of this package only
the small one is imported at once; a larger one when a checkpoint needs it. Independent of token ids.
"""

import importlib.util
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save

from .codec_adapter_ttt import ADAPTED_CODECS, FEATURE_CODECS, CodecAdapter, adapted_config
from .codec_interface_ttt import Codec, CodecConfig, CodecStream, EncodeStream
from .codec_stream_ttt import WholeCodecStream, WindowedCodecStream
from .codec_ttt import TttCodecModel  # noqa: F401 - its module registers it with the Auto classes
from .loading_faults_ttt import faults_named, load_whole

logger = logging.getLogger(__name__)

CODEC_FILES = (".json", ".safetensors", ".py", ".md")
CODEC_FOLDER = "codec"  # of a checkpoint
OWN_CODEC = f"./{CODEC_FOLDER}"

# Codecs of this package that register themselves when they are imported, and have a stream of their own. A published
# processor does not contain their code: it is in the codec's own folder, as for any codec.
LARGE_CODECS = {"glm4_voice_codec": ".glm4_voice_codec"}


class CodecHandle:
    """
    A codec that is loaded on first use. Copies share it, a pickle carries its name and not its weights.

    Args:
        name_or_path (`str`): `./folder` in the checkpoint named by `source`, or a folder or Hub id of its own.
        source (`str`, *optional*): Folder or Hub id of the checkpoint.
        subfolder (`str`, *optional*): Subfolder of `source` with the checkpoint.
        revision (`str`, *optional*): Revision of `source` on the Hub.
        loading_kwargs (`dict`, *optional*): Further arguments of `from_pretrained` (`token`, `cache_dir`,
            `trust_remote_code`, ...).
    """

    def __init__(
        self,
        name_or_path: str,
        source: str | None = None,
        subfolder: str = "",
        revision: str | None = None,
        loading_kwargs: dict[str, Any] | None = None,
    ):
        self.name_or_path = name_or_path
        self.source = source
        self.subfolder = subfolder
        self.revision = revision
        self.loading_kwargs = loading_kwargs or {}
        self._config: CodecConfig | None = None
        self._model: Codec | None = None
        self._is_given = False
        self._lock = threading.RLock()

    @property
    def config(self) -> CodecConfig:
        """The codec's configuration; reading it does not load the weights."""
        if self._model is not None:
            return self._model.config
        with self._lock:
            if self._config is None:
                self._config = adapted_config(self._load(AutoConfig.from_pretrained))
        return self._config

    @property
    def model(self) -> Codec:
        """The codec, loaded in float32 on first use."""
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = self._load_model()
        return self._model

    @model.setter
    def model(self, model: Codec) -> None:
        needs_adapter = not isinstance(model, CodecAdapter) and model.config.model_type in ADAPTED_CODECS
        with self._lock:
            self._model, self._is_given = CodecAdapter(model) if needs_adapter else model, True

    def encode(self, waveform: np.ndarray) -> list[int]:
        """
        Encode a waveform.

        Args:
            waveform (`np.ndarray` of shape `(samples,)`, float32): Audio at `config.sampling_rate`.

        Returns:
            `list[int]`: Codes.
        """
        codec = self.model
        with torch.inference_mode():
            codes: Any = codec.encode(
                torch.from_numpy(waveform)[None, None].to(codec.device)
            ).audio_codes  # (1, 1, frames)
        return codes[0, 0].tolist()

    def decode(self, codes: list[int]) -> np.ndarray:
        """
        Decode codes.

        Args:
            codes (`list[int]`): Codes, at least one.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32: Audio at `config.output_sampling_rate`.
        """
        codec = self.model
        with torch.inference_mode():
            values: Any = codec.decode(
                torch.tensor(codes, device=codec.device)[None, None]
            ).audio_values  # (1, 1, samples)
        return values[0, 0].float().cpu().numpy()

    def stream(self) -> CodecStream:
        """
        Begin to decode codes that arrive piece by piece.

        The codec of GLM-4-Voice has a stream of its own. A codec that declares its receptive field
        (`config.decode_context` and `config.decode_lookahead`, in codes) decodes codes as they arrive; any other one
        decodes after the last code.

        Returns:
            [`CodecStream`]: `push(codes)` and `finish()` return the samples of `decode` on all codes, piece by piece.
            With GLM-4-Voice they differ slightly, since its flow uses all codes at once (see
            [`Glm4VoiceDecoderStream`]).
        """
        config = self.config
        if config.model_type in LARGE_CODECS:
            codec: Any = self.model
            return codec.decode_stream()
        context, lookahead = getattr(config, "decode_context", None), getattr(config, "decode_lookahead", None)
        if context is None or lookahead is None:
            return WholeCodecStream(self.decode)
        return WindowedCodecStream(
            self.decode, context, lookahead, round(config.output_sampling_rate / config.frame_rate)
        )

    def encode_stream(self) -> EncodeStream | None:
        """
        Begin to encode audio that arrives piece by piece.

        Returns:
            [`EncodeStream`] or `None`: Takes samples at `config.sampling_rate`; none if the codec needs all audio at
                once.
        """
        begin = getattr(self.model, "encode_stream", None)
        return None if begin is None else begin()

    def save(self, folder: str) -> str:
        """
        Write the codec and its sources into a checkpoint folder, whether it was loaded or not.

        A codec with a Hub id of its own is not copied.

        Args:
            folder (`str`): The checkpoint folder.

        Returns:
            `str`: The name by which a processor in that folder finds the codec.
        """
        target = os.path.join(folder, CODEC_FOLDER)
        location = None if self._is_given else self._location()
        if (
            location is not None
            and location[0] is not None
            and not self._is_relative
            and not os.path.isdir(location[0])
        ):
            return self.name_or_path
        if self._model is not None:
            self._model.save_pretrained(target)
        elif location is None:
            if not os.path.isdir(target):
                logger.warning(
                    "The processor has no codec yet, so none was saved: put one into %r before loading.", target
                )
        else:
            self._copy_folder(*location, target)
        return OWN_CODEC

    @property
    def _is_relative(self) -> bool:
        return self.name_or_path.startswith("./")

    def _location(self) -> tuple[str, str] | None:
        """Folder or Hub id, and its subfolder; `None` if relative to a checkpoint and the processor came from none."""
        if not self._is_relative:
            return self.name_or_path, ""
        if self.source is None:
            return None
        if ".." in self.name_or_path.split("/"):
            raise ValueError(
                f"The codec {self.name_or_path!r} is outside of its checkpoint: give its whole path, or its Hub id."
            )
        subfolder = "/".join(part for part in (self.subfolder, self.name_or_path[2:]) if part)
        return (os.path.join(self.source, subfolder), "") if os.path.isdir(self.source) else (self.source, subfolder)

    def _load_model(self) -> Codec:
        # Auto classes also look for a PEFT adapter, and without these arguments they ask the Hub for it even offline.
        cache = {
            key: self.loading_kwargs[key] for key in ("cache_dir", "local_files_only") if key in self.loading_kwargs
        }
        model = self._load(partial(load_whole, AutoModel), dtype=torch.float32, adapter_kwargs=cache).eval()
        if model.config.model_type not in ADAPTED_CODECS:
            return model
        needs_features = model.config.model_type in FEATURE_CODECS
        return CodecAdapter(model, self._load(AutoFeatureExtractor.from_pretrained) if needs_features else None)

    def _load(self, load: Callable[..., Any], **kwargs: Any) -> Any:
        location = self._location()
        if location is None:
            raise ValueError(
                f"The processor was not loaded from a checkpoint, so its codec {self.name_or_path!r} cannot be found: "
                "set `processor.codec`, or give `codec_name_or_path` as a folder or Hub id."
            )
        path, subfolder = location
        kwargs = {"trust_remote_code": False, **self.loading_kwargs, **kwargs}  # the default asks on standard input
        if self._is_relative and not os.path.isdir(path):
            kwargs["revision"] = self.revision
        where = f"{path}/{subfolder}" if subfolder else path
        way_out = (
            "a codec's folder holds config.json and model.safetensors. Put it there, or give `codec_name_or_path`."
        )
        with faults_named(f"the codec {where!r}", way_out):
            reading = {name: value for name, value in kwargs.items() if name != "trust_remote_code"}  # warns if True
            stored, _ = PreTrainedConfig.get_config_dict(path, subfolder=subfolder, **reading)
            _register_large_codec(stored.get("model_type"))
            return load(path, subfolder=subfolder, **kwargs)

    def _copy_folder(self, path: str, subfolder: str, target: str) -> None:
        if not os.path.isdir(path):
            hub_kwargs = {
                key: self.loading_kwargs[key]
                for key in ("token", "cache_dir", "local_files_only")
                if key in self.loading_kwargs
            }
            path = snapshot_download(path, revision=self.revision, allow_patterns=f"{subfolder}/*", **hub_kwargs)
            path = os.path.join(path, subfolder)
        if not os.path.isdir(path):
            if not os.path.isdir(target):
                logger.warning(
                    "There is no codec in %r, so none was saved: put one into %r before loading.", path, target
                )
        else:
            if os.path.realpath(path) != os.path.realpath(target):
                self.config  # noqa: B018 - an error for a folder that is no codec's
                _copy_codec_files(path, target)
            _write_codec_sources(target)

    def __deepcopy__(self, memo: dict) -> "CodecHandle":
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_lock": None}
        if not self._is_given:
            state["_model"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


def _register_large_codec(model_type: str | None) -> None:
    """Register one of `LARGE_CODECS` with the Auto classes, by importing its module where the package has it."""
    module = LARGE_CODECS.get(model_type or "")
    if module and importlib.util.find_spec(module, __package__):
        importlib.import_module(module, __package__)


def _write_codec_sources(folder: str) -> None:
    """Add what `save_pretrained` of the codec writes too: source files, and the `auto_map` naming them."""
    config_file = os.path.join(folder, "config.json")
    if not os.path.isfile(config_file):
        return
    with open(config_file, encoding="utf-8") as file:
        stored = json.load(file)
    _register_large_codec(stored.get("model_type"))
    if stored.get("model_type") not in CONFIG_MAPPING:
        return  # a codec with code of its own, which was copied with its folder
    config_class = CONFIG_MAPPING[stored["model_type"]]
    model_class = MODEL_MAPPING.get(config_class, None)
    if getattr(model_class, "_auto_class", None) is None:
        return  # a codec of transformers: no source files
    custom_object_save(model_class, folder)
    classes = {"AutoConfig": config_class, "AutoModel": model_class, "AutoModelForAudioTokenization": model_class}
    auto_map = {name: f"{found.__module__.rpartition('.')[2]}.{found.__name__}" for name, found in classes.items()}
    with open(config_file, "w", encoding="utf-8") as file:
        json.dump({**stored, "auto_map": auto_map}, file, indent=2, sort_keys=True)
        file.write("\n")


def names_outside_folder(name_or_path: str) -> bool:
    """Ask whether a codec's name in a checkpoint's file leads out of the checkpoint: a Hub id and `./codec` do not."""
    return os.path.isabs(name_or_path) or name_or_path.startswith("~") or ".." in name_or_path.split("/")


def _copy_codec_files(path: str, target: str) -> None:
    """
    Copy the files of a codec's folder and nothing else: a checkpoint may name any folder, or hold links to any file,
    and what is saved is often published.
    """
    os.makedirs(target, exist_ok=True)
    for name in sorted(os.listdir(path)):
        file = os.path.join(path, name)
        is_licence = name.upper().startswith(("LICENSE", "LICENCE", "NOTICE"))
        if name.startswith(".") or not os.path.isfile(file) or not (is_licence or name.endswith(CODEC_FILES)):
            continue
        if not _stays_inside(file, path):
            raise OSError(
                f"{file!r} is a link to a file outside of the codec's folder, which is not copied: replace the link by "
                "the file."
            )
        shutil.copyfile(file, os.path.join(target, name))


def _stays_inside(file: str, folder: str) -> bool:
    """Whether a file is in a folder once links are followed; the Hub's cache links to `blobs` beside `snapshots`."""
    folder = os.path.realpath(folder)
    repository, snapshots, _ = folder.rpartition(f"{os.sep}snapshots{os.sep}")
    allowed = [folder, os.path.join(repository, "blobs")] if snapshots else [folder]
    return any(os.path.realpath(file).startswith(root + os.sep) for root in allowed)
