import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from clean_process import NOT_INSTALLED
from glm4_voice_fixtures import codes_of, noise, tiny_codec
from processing_fixtures import tiny_tokenizer
from transformers import AutoModel, AutoModelForAudioTokenization, AutoProcessor

from processing_ttt import TttProcessor, add_ttt_tokens, glm4_voice_codec
from processing_ttt.glm4_voice_codec import Glm4VoiceCodec
from processing_ttt.glm4_voice_licence import NOTICE_FILE

RATE = 16000
MODULES = {
    "codec_interface_ttt.py",
    "glm4_voice_codec.py",
    "glm4_voice_configuration.py",
    "glm4_voice_decoder.py",
    "glm4_voice_flow.py",
    "glm4_voice_hift.py",
    "glm4_voice_licence.py",
    "glm4_voice_streaming.py",
    "glm4_voice_tokenizer.py",
    "glm4_voice_unet.py",
    "hub_ttt.py",
}


@pytest.fixture(scope="module")
def codec():
    return tiny_codec()


@pytest.fixture(scope="module")
def checkpoint(codec, tmp_path_factory):
    """A processor's folder with the codec in it, and what it hears and says."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = tiny_tokenizer()
    add_ttt_tokens(tokenizer, codec.config.codebook_size)
    processor = TttProcessor(tokenizer)
    processor.codec = codec
    processor.save_pretrained(folder)
    codes = processor.encode_audio((noise(30000).numpy(), RATE))
    return folder, codes, processor.decode_codes(codes)


def test_it_has_the_interface_of_every_codec(codec):
    config = codec.config
    assert (config.sampling_rate, config.output_sampling_rate, config.frame_rate, config.codebook_size) == (
        16000,
        22050,
        12.5,
        64,
    )
    output = codec(noise(30000)[None, None])
    assert output.audio_codes.shape == (1, 1, 24)
    assert output.audio_values.shape == (1, 1, 24 * 441 // 64 * 256)
    assert output.audio_values.dtype == torch.float32


def test_a_row_of_a_batch_is_encoded_and_decoded_as_alone(codec):
    waveforms = [noise(30000), noise(9000, seed=1)]
    values = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    mask = torch.arange(30000) < torch.tensor([[30000], [9000]])
    together = codec(values[:, None], mask)
    for row, audio in enumerate(waveforms):
        alone = codec(audio[None, None])
        count, samples = alone.audio_codes.shape[-1], alone.audio_values.shape[-1]
        assert torch.equal(together.audio_codes[row, :, :count], alone.audio_codes[0])
        assert (together.audio_codes[row, :, count:] == -1).all()
        torch.testing.assert_close(together.audio_values[row, :, :samples], alone.audio_values[0], atol=1e-4, rtol=0)
        assert not together.audio_values[row, :, samples:].any()


def test_its_streams_are_its_own_halves(codec):
    audio = noise(30000)
    hearing, speaking = codec.encode_stream(), codec.decode_stream(num_inference_steps=2)
    codes = hearing.push(audio.numpy()) + hearing.finish()
    assert codes == codec.encode(audio[None, None]).audio_codes[0, 0].tolist()
    values = torch.from_numpy(np.concatenate([speaking.push(codes), speaking.finish()]))
    expected = codec.decode(torch.tensor(codes)[None, None], num_inference_steps=2).audio_values[0, 0]
    torch.testing.assert_close(values, expected, atol=2e-5, rtol=0)


def test_it_is_saved_with_its_code_and_found_again(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == MODULES
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "glm4_voice_configuration.Glm4VoiceCodecConfig",
        "AutoModel": "glm4_voice_codec.Glm4VoiceCodec",
        "AutoModelForAudioTokenization": "glm4_voice_codec.Glm4VoiceCodec",
    }
    assert not (tmp_path / NOTICE_FILE).exists()  # these weights are nobody's
    for auto_class in (AutoModel, AutoModelForAudioTokenization):
        loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is Glm4VoiceCodec and not loaded.training
        assert not any(info.values()), info
        for name, tensor in codec.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name


def test_in_bfloat16_what_must_be_exact_stays_in_float32(codec, tmp_path):
    codec.save_pretrained(tmp_path)
    loaded = Glm4VoiceCodec.from_pretrained(tmp_path, dtype=torch.bfloat16)
    exact = {name.split(".")[1] for name, tensor in loaded.state_dict().items() if tensor.dtype == torch.float32}
    assert exact == {"codebook", "vocoder"}
    assert torch.isfinite(loaded.decode(codes_of(5)).audio_values).all()
    assert loaded.encode(noise(9000)[None, None]).audio_codes.shape == (1, 1, 8)


def test_a_processor_encodes_and_decodes_with_it(checkpoint, codec):
    folder, codes, values = checkpoint
    assert {path.name for path in (folder / "codec").glob("*.py")} == MODULES
    assert not MODULES & {path.name for path in folder.glob("glm4*")}
    expected = codec.encode(noise(30000)[None, None]).audio_codes[0, 0].tolist()
    assert codes == expected and len(set(codes)) > 3
    assert values.dtype == np.float32 and len(values) == len(codes) * 441 // 64 * 256


def test_a_processor_speaks_with_it_while_codes_are_coming(checkpoint, codec):
    folder, codes, _ = checkpoint
    stream, own = AutoProcessor.from_pretrained(folder).codec_stream(), codec.decode_stream()
    for start in range(0, len(codes), 5):
        np.testing.assert_array_equal(stream.push(codes[start : start + 5]), own.push(codes[start : start + 5]))
    np.testing.assert_array_equal(stream.finish(), own.finish())


@pytest.mark.parametrize("released", [True, False])
def test_a_pushed_codec_has_the_card_and_the_notice_of_its_weights(monkeypatch, released):
    pushed = []
    monkeypatch.setattr(glm4_voice_codec, "push_with_card", lambda *args, **kwargs: pushed.append((args, kwargs)))
    tiny_codec(weights_license="glm-4-voice" if released else None).push_to_hub("name/codec", token="secret")
    (_, repo_id, card, plain), options = pushed[0]
    assert (repo_id, card, options) == ("name/codec", None, {"token": "secret", "commit_message": "Upload codec"})
    assert plain.data.to_dict().get("license_name") == ("glm-4-voice" if released else None)
    assert ("Built with glm-4" in plain.text) == released


PROCESS = """
import sys
import json
import numpy as np
import torch
torch.set_num_threads(1)
job = json.loads(sys.argv[1])
if job["installed"]:
    import processing_ttt
    assert not [name for name in sys.modules if "glm4_voice" in name], "imported before it is needed"
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(job["folder"], trust_remote_code=not job["installed"])
codes = processor.encode_audio((np.load(job["audio"]), 16000))
values = processor.decode_codes(codes)
module = type(processor.codec).__module__
assert module.startswith("processing_ttt." if job["installed"] else "transformers_modules."), module
print("RESULT" + json.dumps([codes, len(values), float(np.abs(values).sum())]))
"""


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "as remote code"])
def test_another_process_finds_it_when_it_is_needed(checkpoint, installed, tmp_path):
    folder, codes, values = checkpoint
    np.save(tmp_path / "audio.npy", noise(30000).numpy())
    job = {"folder": str(folder), "installed": installed, "audio": str(tmp_path / "audio.npy")}
    isolation = ["-c"] if installed else ["-I", "-c"]
    code = PROCESS if installed else NOT_INSTALLED + PROCESS
    process = subprocess.run([sys.executable, *isolation, code, json.dumps(job)], capture_output=True, text=True)
    assert "RESULT" in process.stdout, process.stderr[-2000:]
    encoded, length, level = json.loads(process.stdout.partition("RESULT")[2])
    assert (encoded, length) == (codes, len(values))
    assert level == pytest.approx(float(np.abs(values).sum()), rel=1e-4)


def test_its_names_are_there_on_first_use():
    import processing_ttt

    assert processing_ttt.Glm4VoiceCodec is Glm4VoiceCodec
    with pytest.raises(AttributeError, match="no attribute 'Glm5VoiceCodec'"):
        _ = processing_ttt.Glm5VoiceCodec
