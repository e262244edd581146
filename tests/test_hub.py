"""
Publishing to a Hub and loading from it over HTTP, in processes of their own, against the small Hub of
`loopback_hub.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from clean_process import NOT_INSTALLED
from codec_fixtures import narrow_codec
from glm4_voice_fixtures import (
    tiny_decoder_model,
    tiny_tokenizer_model,
    write_released_decoder,
    write_released_tokenizer,
)
from huggingface_hub import ModelCard
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE as CHUNK
from loopback_hub import LoopbackHub
from processing_fixtures import tiny_tokenizer
from released_fixtures import released_tokenizer, write_released

from modeling_ttt import TttConfig, TttForConditionalGeneration
from processing_ttt import TttProcessor, add_ttt_tokens
from processing_ttt.glm4_voice_licence import LICENCE_NOTICE

PUBLISHER = """
import json, sys
import modeling_ttt, processing_ttt
from modeling_ttt import model_card
from processing_ttt import codec_card
from transformers import AutoModel, AutoProcessor

folder = sys.argv[1]
model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
card = model_card("name/speaker", model.config,
                  language=["en", "de"], license="apache-2.0", base_model="Qwen/Qwen2.5-0.5B",
                  measured={"WER of replies": 0.125}, tags=["my-tag"], about="It was made for a test.")
model.push_to_hub("name/speaker", card=card)
processor.push_to_hub("name/speaker")
card = codec_card("name/codec", processor.codec.config, license="mit", measured={"codes": 16})
processor.codec.push_to_hub("name/codec", card=card)
model.config.clean_audio_prob = 0.5
model.push_to_hub("name/speaker", revision="next", commit_message="Try")
model.push_to_hub("name/plain")
"""

LISTENER = """
import json
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor

torch.set_num_threads(1)
model = AutoModel.from_pretrained("name/speaker", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("name/speaker", trust_remote_code=True)
inputs = processor.apply_chat_template(
    processor.conversation(
        "chat", audio={"array": torch.sin(torch.arange(8000) / 8.0).numpy(), "sampling_rate": 16000}),
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
# With a begin marker, so that it speaks.
prompt = torch.cat([inputs["input_ids"], torch.tensor([[model.config.begin_audio_token_id]])], dim=1)
ids = model.generate(prompt, max_new_tokens=40, do_sample=False)
reply = processor.decode_reply(ids[0, prompt.shape[1]:])
codec = AutoModel.from_pretrained("name/codec", trust_remote_code=True)
result = {"modules": [type(one).__module__.partition(".")[0] for one in (model, processor, codec)],
          "ids": ids[0].tolist(), "prompt": prompt.shape[1], "samples": len(reply.audio),
          "codes": processor.codec.config.codebook_size,
          "codec": codec.config.codebook_size}
print("RESULT" + json.dumps(result))
"""

SOUGHT = """
import json
from transformers import AutoConfig, AutoModel, AutoProcessor

def error(function, *arguments, **kwargs):
    try:
        function(*arguments, trust_remote_code=True, **kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

result = {
    "main": AutoConfig.from_pretrained("name/speaker", trust_remote_code=True).clean_audio_prob,
    "v1": AutoConfig.from_pretrained("name/speaker", trust_remote_code=True, revision="v1").clean_audio_prob,
    "no weights": error(AutoModel.from_pretrained, "name/no-weights"),
    "no source": error(AutoModel.from_pretrained, "name/no-source"),
    "no revision": error(AutoModel.from_pretrained, "name/speaker", revision="v9"),
    "no repository": error(AutoModel.from_pretrained, "name/nothing"),
}
processor = AutoProcessor.from_pretrained("name/no-codec", trust_remote_code=True)
try:
    processor.codec
except OSError as caught:
    result["no codec"] = str(caught)
print("RESULT" + json.dumps(result))
"""

CONVERTER = """
import json, sys
from pathlib import Path
from ttt_cli import checkpoints
from modeling_ttt import TttForConditionalGeneration

direct = TttForConditionalGeneration.from_pretrained("name/released", revision="v1").config
checkpoints.convert("name/released", Path("out"), revision="v1")
converted = TttForConditionalGeneration.from_pretrained("out").config
names = ("mask_token_id", "audio_code_offset", "audio_codebook_size", "begin_audio_token_id",
         "end_last_audio_token_id", "eos_token_id")
result = {name: [getattr(config, name) for config in (direct, converted)] for name in names}
result["card"] = Path("out/README.md").read_text()
print("RESULT" + json.dumps(result))
"""


def run(code: str, environment: dict[str, str], *arguments: str, cwd: Path) -> dict:
    """Run a program and give what it prints after RESULT."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.partition("RESULT")[2] or "{}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A complete small checkpoint: model, processor and codec. The weights are larger than a chunk of a download."""
    folder = tmp_path_factory.mktemp("checkpoint")
    codec = narrow_codec()
    tokenizer = tiny_tokenizer()
    vocabulary = add_ttt_tokens(tokenizer, codec.config.codebook_size)
    backbone = {
        "model_type": "qwen2", "vocab_size": vocabulary.vocab_size, "hidden_size": 32, "intermediate_size": 16384,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TttForConditionalGeneration(
            TttConfig(text_config=backbone, initializer_range=0.5, **vocabulary.config_kwargs())
        )
    model.save_pretrained(folder)
    processor = TttProcessor(tokenizer)
    processor.codec = codec
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub(token="hf_loopback") as hub:
        yield hub


@pytest.fixture(scope="module")
def published(hub, checkpoint, tmp_path_factory) -> LoopbackHub:
    """The Hub after a user pushed model, processor and codec."""
    home = tmp_path_factory.mktemp("publisher")
    run(PUBLISHER, hub.environment(home, PYTHONPATH=str(ROOT)), str(checkpoint), cwd=home)
    return hub


def test_pushing_uploads_model_processor_codec_and_sources(published, checkpoint):
    files = published.files("name/speaker")
    written = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()}
    assert written - files.keys() == set()
    assert files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert files["codec/model.safetensors"] == (checkpoint / "codec" / "model.safetensors").read_bytes()
    assert {"config.json", "model.safetensors", "codec_ttt.py", "README.md"} <= published.files("name/codec").keys()


def test_each_push_is_one_commit(published):
    messages = [commit.message for commit in published.repositories["name/speaker"].commits.values()]
    assert messages == ["initial commit", "Upload model", "Upload processor", "Try"]


def test_the_card_says_language_licence_base_model_and_measured_numbers(published):
    card = ModelCard(published.files("name/speaker")["README.md"].decode())
    assert card.data.language == ["en", "de"]
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == "Qwen/Qwen2.5-0.5B"
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "any-to-any"
    assert {"text-to-talk", "my-tag"} <= set(card.data.tags)
    assert "| WER of replies | 0.125 |" in card.text
    assert "It was made for a test." in card.text
    assert 'from_pretrained("name/speaker", trust_remote_code=True)' in card.text
    codec = ModelCard(published.files("name/codec")["README.md"].decode())
    assert codec.data.license == "mit"
    assert "| codes | 16 |" in codec.text


def test_a_card_stays_when_a_processor_or_a_new_version_is_pushed_and_a_repository_without_one_gets_one(published):
    assert published.files("name/speaker", "next")["README.md"] == published.files("name/speaker")["README.md"]
    assert "text-to-talk" in ModelCard(published.files("name/plain")["README.md"].decode()).data.tags


@pytest.fixture(scope="module")
def listener(published, tmp_path_factory) -> dict:
    """What a process without our packages loads and hears; the download of the weights breaks in the middle."""
    home = tmp_path_factory.mktemp("listener")
    published.break_download = ("model.safetensors", CHUNK + 1_000_000)
    first = run(NOT_INSTALLED + LISTENER, published.environment(home), cwd=home)
    first_ranges = list(published.ranges)
    published.requests.clear()
    second = run(NOT_INSTALLED + LISTENER, published.environment(home), cwd=home)
    return {"first": first, "second": second, "ranges": first_ranges, "again": published.downloads()}


def test_auto_classes_load_model_processor_and_codec_over_http_and_talk(listener, checkpoint):
    first = listener["first"]
    assert first["modules"] == ["transformers_modules"] * 3
    assert first["codes"] == first["codec"] == 16
    assert first["samples"] > 0
    model = TttForConditionalGeneration.from_pretrained(checkpoint)
    prompt = torch.tensor([first["ids"][: first["prompt"]]])
    assert model.generate(prompt, max_new_tokens=40, do_sample=False)[0].tolist() == first["ids"]


def test_an_interrupted_download_is_resumed_where_it_broke(listener):
    assert listener["ranges"] == [f"bytes={CHUNK}-"]


def test_a_second_process_downloads_nothing_again(listener):
    assert listener["again"] == []
    assert listener["second"] == listener["first"]


@pytest.fixture(scope="module")
def sought(published, tmp_path_factory) -> dict:
    """What a process finds and does not find."""
    home = tmp_path_factory.mktemp("seeker")
    files = published.files("name/speaker")
    published.tag("name/speaker", "v1")
    changed = json.loads(files["config.json"]) | {"clean_audio_prob": 0.75}
    published.commit("name/speaker", {"config.json": json.dumps(changed).encode()})
    for missing, repo in (
        ("model.safetensors", "no-weights"),
        ("decoding_ttt.py", "no-source"),
        ("codec/config.json", "no-codec"),
    ):
        published.commit(f"name/{repo}", {path: data for path, data in files.items() if path != missing})
    return run(NOT_INSTALLED + SOUGHT, published.environment(home), cwd=home)


def test_a_revision_is_loaded_as_it_was(sought):
    assert (sought["v1"], sought["main"]) == (0.3, 0.75)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("no weights", "model.safetensors"),
        ("no source", "decoding_ttt.py"),
        ("no codec", "name/no-codec/codec"),
        ("no revision", "v9"),
        ("no repository", "name/nothing"),
    ],
)
def test_what_is_missing_is_named(sought, what, expected):
    assert expected in sought[what]


def test_a_released_checkpoint_loads_and_converts_from_the_hub_at_a_revision(hub, tmp_path):
    write_released(tmp_path / "released", shard_size="20KB")
    hub.commit("name/released", tmp_path / "released")
    hub.tag("name/released", "v1")
    hub.commit("name/released", {"config.json": b"{}", "training_state.pt": b"not wanted"})
    result = run(CONVERTER, hub.environment(tmp_path / "home", PYTHONPATH=str(ROOT)), cwd=tmp_path)
    card = ModelCard(result.pop("card"))
    vocab = released_tokenizer().get_vocab()
    assert result["mask_token_id"] == [vocab["<|mask_token|>"]] * 2
    assert result["eos_token_id"] == [vocab["<|im_end|>"]] * 2
    assert all(direct == converted is not None for direct, converted in result.values())
    assert card.data.base_model == "name/released"
    assert not [path for path in hub.downloads() if path.endswith("training_state.pt")]


CODEC_PUBLISHER = """
import sys
from pathlib import Path
from ttt_cli import checkpoints
from processing_ttt import Glm4VoiceCodec

checkpoints.convert_codec("THUDM", Path("codec"))
Glm4VoiceCodec.from_pretrained("codec").push_to_hub("name/glm-4-codec")
"""

CODEC_LISTENER = """
import json
import torch
from transformers import AutoModel

codec = AutoModel.from_pretrained("name/glm-4-codec", trust_remote_code=True)
codes = codec.encode(torch.sin(torch.arange(9000) / 8.0)[None, None]).audio_codes
audio = codec.decode(codes).audio_values
result = {"module": type(codec).__module__, "codes": codes[0, 0].tolist(), "samples": audio.shape[-1]}
print("RESULT" + json.dumps(result))
"""


def test_the_released_codec_comes_from_the_hub_and_goes_there_with_its_licence(hub, tmp_path):
    tokenizer = tiny_tokenizer_model()
    write_released_tokenizer(tmp_path / "tokenizer", tokenizer)
    write_released_decoder(tmp_path / "decoder", tiny_decoder_model())
    for half in ("tokenizer", "decoder"):
        hub.commit(f"THUDM/glm-4-voice-{half}", tmp_path / half)
    run(CODEC_PUBLISHER, hub.environment(tmp_path / "publisher", PYTHONPATH=str(ROOT)), cwd=tmp_path)
    files = hub.files("name/glm-4-codec")
    assert files["LICENSE-glm-4-voice.md"].decode() == LICENCE_NOTICE
    card = ModelCard(files["README.md"].decode())
    assert card.data.to_dict()["license_name"] == "glm-4-voice" and "Built with glm-4" in card.text
    result = run(NOT_INSTALLED + CODEC_LISTENER, hub.environment(tmp_path / "listener"), cwd=tmp_path)
    expected = tokenizer.encode(torch.sin(torch.arange(9000) / 8.0)[None, None]).audio_codes[0, 0].tolist()
    assert result["module"].startswith("transformers_modules.")
    assert (result["codes"], result["samples"]) == (expected, len(expected) * 441 // 64 * 256)
