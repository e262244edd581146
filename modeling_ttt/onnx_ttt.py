"""
A model whose forward passes run on ONNX Runtime, from a folder that `export_onnx_ttt` wrote.

Only the backbone and its output projection are exchanged: `generate`, the decoding loop and its exact cache are those
of the PyTorch model. The graph computes the logits of all token ids at once, so what the decoder takes for hidden
states are logits here, and what it takes for embeddings are token ids.

Depends on `onnxruntime`: `pip install "text-to-talk[edge]"`. Independent of how the graph was made.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import cached_file
from typing_extensions import Self

from .configuration_ttt import TttConfig
from .export_manifest_ttt import MANIFEST_FILE, check_files, manifest_digests, read_manifest
from .masking_ttt import CACHE_NAME, AttentionMask
from .modeling_ttt import TttForConditionalGeneration

ONNX_FOLDER = "onnx"
GRAPH_FILE, DATA_FILE = "model.onnx", "model.onnx.data"
STATES = ("keys", "values")  # of each layer: inputs `past_keys.0`, ..., outputs `present_keys.0`, ...


class TttOnnxForConditionalGeneration(TttForConditionalGeneration):
    """
    [`TttForConditionalGeneration`] on ONNX Runtime: the same `generate`, on a CPU, without training.

    Args:
        config ([`TttConfig`]): The model's configuration.
        graph (`os.PathLike`): `model.onnx`, with its weights beside it.

    Raises:
        ImportError: `onnxruntime` is not installed.
        ValueError: The graph cannot be read, or belongs to another model.
    """

    engine = "onnx"

    def __init__(self, config: TttConfig, graph: str | os.PathLike):
        with torch.device("meta"):
            super().__init__(config)
        self.exported_files: dict[str, Path] = {}  # by their names in the export's folder
        self.model = OnnxBackbone(config.text_config, _open_session(Path(graph)))
        self.lm_head: nn.Module = nn.Identity()  # type: ignore[assignment]  # the graph projects
        self.cache_layer_class = PresentLayer

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Self:
        """
        Load an exported model.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args: None are taken.
            kwargs: `config`, and `cache_dir`, `revision`, `token`, ... of a Hub download.

        Returns:
            [`TttOnnxForConditionalGeneration`]: In eval mode.

        Raises:
            OSError: There is no export in the folder or repository.
            ValueError: The export is damaged or of another model.
        """
        source = os.fspath(pretrained_model_name_or_path)
        hub = {name: kwargs[name] for name in ("cache_dir", "revision", "token", "local_files_only") if name in kwargs}
        config = kwargs.get("config") or TttConfig.from_pretrained(source, **hub)
        try:
            manifest_file, graph, _ = (
                cached_file(source, f"{ONNX_FOLDER}/{name}", **hub) for name in (MANIFEST_FILE, GRAPH_FILE, DATA_FILE)
            )
        except OSError as error:
            raise FileNotFoundError(
                f"{source!r} has no export: `ttt export {source} OUT` writes one to OUT."
            ) from error
        manifest = read_manifest(Path(manifest_file), config)
        folder = Path(manifest_file).parents[1]
        own_graphs = dict.fromkeys(f"{ONNX_FOLDER}/{name}" for name in (GRAPH_FILE, DATA_FILE))
        digests = own_graphs | manifest_digests(manifest, ONNX_FOLDER)
        for name in digests:  # downloads what is on the Hub; what is missing is named next
            cached_file(source, name, **hub, _raise_exceptions_for_missing_entries=False)
        check_files(folder, digests)
        model = cls(config, graph)
        model.exported_files = {name: folder / name for name in (f"{ONNX_FOLDER}/{MANIFEST_FILE}", *digests)}
        try:
            model.generation_config = GenerationConfig.from_pretrained(source, **hub)
        except OSError as error:
            raise FileNotFoundError(
                f"{source!r} has no generation_config.json, or a damaged one: export again with `ttt export`."
            ) from error
        return model.eval()

    def save_pretrained(  # type: ignore[override]  # there are no weights to be split or converted
        self, save_directory: str | os.PathLike, max_shard_size: int | str | None = None
    ) -> None:
        """
        Copy the export, with its processor and codec, to a folder that loads with `engine="onnx"`.

        Args:
            save_directory (`str` or `os.PathLike`): New or empty folder.
            max_shard_size (`int` or `str`, *optional*): Ignored, as an export's files are copied as they are.

        Raises:
            ValueError: The model was made from a graph alone.
        """
        if not self.exported_files:
            raise ValueError("This model is of a graph alone, without its export: load it by `from_pretrained`.")
        for name, path in self.exported_files.items():
            target = Path(save_directory, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        self.config.save_pretrained(save_directory)
        self.generation_config.save_pretrained(save_directory)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of logits, keys and values, also where weights are int8."""
        return torch.float32

    def get_input_embeddings(self) -> nn.Module:
        """See [`OnnxBackbone`]."""
        return self.model.get_input_embeddings()

    def _scale_logits(self, logits: torch.Tensor) -> torch.Tensor:
        return logits  # the graph has scaled them

    def _check_static_cache(self) -> None:
        raise ValueError('ONNX Runtime compiles nothing: use `cache_implementation="dynamic"`.')


class OnnxBackbone(nn.Module):
    """
    Runs forward passes of the graph.

    Args:
        config (`PreTrainedConfig`): Configuration of the backbone.
        session (`onnxruntime.InferenceSession`): The graph.
    """

    def __init__(self, config: PreTrainedConfig, session: Any):
        super().__init__()
        self.config = config
        self.session = session
        self.vocab_size: int = session.get_outputs()[0].shape[-1]
        past = {value.name: value for value in session.get_inputs()}
        self.num_layers = sum(name.startswith("past_keys.") for name in past)
        if not self.num_layers or self.num_layers != config.num_hidden_layers:
            raise ValueError(
                f"The graph has {self.num_layers} layers, the configuration {config.num_hidden_layers}: export again."
            )
        # (heads, size), of keys and of values
        self.shapes = {name: [int(past[f"past_{name}.0"].shape[axis]) for axis in (1, 3)] for name in STATES}

    def get_input_embeddings(self) -> nn.Module:
        """Give token ids as they are: the graph looks up their embeddings."""
        return _TokenIds()

    @torch.no_grad()
    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: AttentionMask = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """
        Compute logits, and put new keys and values into the cache.

        Args:
            inputs_embeds (`torch.LongTensor` of shape `(batch, queries, 1)`): Token ids.
            attention_mask (`torch.BoolTensor` of shape `(batch, 1, queries, keys)`, *optional*): True where a query
                sees a key; causal by default.
            position_ids (`torch.LongTensor` of shape `(batch, queries)`, *optional*): From 0 by default.
            kwargs: `cache` (or `past_key_values`).

        Returns:
            `BaseModelOutputWithPast`: Logits `(batch, queries, vocab_size)` as `last_hidden_state`.
        """
        input_ids = inputs_embeds[..., 0]
        batch, queries = input_ids.shape
        cache: Cache | None = kwargs.get(CACHE_NAME)
        layers = self._layers(cache)
        cached = layers[0].get_seq_length() if layers else 0
        if position_ids is None:
            position_ids = torch.arange(cached, cached + queries).expand(batch, -1)
        if isinstance(attention_mask, dict):
            (attention_mask,) = attention_mask.values()  # by type of layer, of which an export has one
        if attention_mask is None:
            attention_mask = torch.ones(queries, cached + queries, dtype=torch.bool).tril(cached)[None, None]
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask.expand(batch, -1, -1, -1),
            "position_ids": position_ids,
        }
        outputs = {"logits": torch.empty(batch, queries, self.vocab_size)}
        for number in range(self.num_layers):
            for name, (heads, size) in self.shapes.items():
                empty = torch.empty(batch, heads, 0, size)
                inputs[f"past_{name}.{number}"] = getattr(layers[number], name) if cached else empty
                outputs[f"present_{name}.{number}"] = torch.empty(batch, heads, cached + queries, size)
        self._run(inputs, outputs)
        for number, layer in enumerate(layers):
            layer.put(outputs[f"present_keys.{number}"], outputs[f"present_values.{number}"])
        return BaseModelOutputWithPast(last_hidden_state=outputs["logits"], **{CACHE_NAME: cache})

    def _layers(self, cache: Cache | None) -> list["PresentLayer"]:
        """The layers of a cache, made where they are missing or were made by another forward pass."""
        if cache is None:
            return []
        for number in range(self.num_layers):
            if number == len(cache.layers):
                cache.layers.append(PresentLayer())
            elif not isinstance(cache.layers[number], PresentLayer):
                cache.layers[number] = PresentLayer.of(cache.layers[number])
        return cache.layers

    def _run(self, inputs: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        """Run the graph on the memory of tensors, without copies."""
        binding = self.session.io_binding()
        kept = []  # alive until the graph has run
        for name, tensor in inputs.items():
            kept.append(tensor := tensor.contiguous())
            if tensor.numel():
                binding.bind_input(name, "cpu", 0, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
            else:
                binding.bind_cpu_input(name, tensor.numpy())
        for name, tensor in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, tuple(tensor.shape), tensor.data_ptr())
        self.session.run_with_iobinding(binding)


class PresentLayer(DynamicLayer):
    """
    Keys and values as the graph returns them. Where a forward pass keeps nothing, as most denoising steps, those before
    it are taken back, without a copy.
    """

    keys: torch.Tensor
    values: torch.Tensor
    _before: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def of(cls, layer: DynamicLayer) -> Self:
        """Take over the keys and values of another layer."""
        taken = cls()
        if layer.get_seq_length():
            taken.put(layer.keys, layer.values)
        return taken

    def put(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Replace keys and values `(batch, heads, keys, size)` by longer ones, which begin with them."""
        if self.is_initialized:
            self._before = self.keys, self.values
        else:
            self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def crop(self, max_length: int) -> None:
        """Keep the first `max_length` positions, or remove the last `-max_length`."""
        before, self._before = self._before, None
        kept = max_length + self.get_seq_length() if max_length < 0 else max_length
        if before is not None and before[0].shape[-2] == kept:
            self.keys, self.values = before
        else:
            super().crop(max_length)


class _TokenIds(nn.Module):
    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return input_ids[..., None]


_NUMPY = {torch.int64: np.int64, torch.bool: np.bool_, torch.float32: np.float32}


def _open_session(graph: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('This engine needs ONNX Runtime: `pip install "text-to-talk[edge]"`.') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between forwards take the cores from PyTorch's, which do the rest of decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of several classes, without a common one
        raise ValueError(
            f"ONNX Runtime {onnxruntime.__version__} cannot read {str(graph)!r}: export it again with `ttt export`, or "
            f"update onnxruntime. ({str(error).splitlines()[0]})"
        ) from error


__all__ = ["TttOnnxForConditionalGeneration"]
