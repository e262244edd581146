import numpy as np
import pytest
import torch
from codec_fixtures import RATE, dac, processor_for
from transformers import (
    AutoProcessor,
    EncodecConfig,
    EncodecModel,
    MimiConfig,
    NeuCodecConfig,
    NeuCodecModel,
    Xcodec2Config,
    Xcodec2FeatureExtractor,
    Xcodec2Model,
)

from processing_ttt.codec_adapter_ttt import CodecAdapter, adapted_config

AUDIO = (0.3 * np.sin(np.arange(8003) / 9)).astype(np.float32)
FEATURE_CODEC = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "encoder_hidden_size": 4,
    "quantization_dim": 48,
    "quantization_levels": [4, 4],
    "semantic_model_config": {
        "model_type": "wav2vec2-bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "feature_projection_input_dim": 160,
        "conv_depthwise_kernel_size": 3,
        "output_hidden_size": 16,
    },
}


def encodec(**changes):
    torch.manual_seed(0)
    config = {"hidden_size": 8, "num_filters": 4, "codebook_size": 16, "num_lstm_layers": 1, **changes}
    return EncodecModel(EncodecConfig(sampling_rate=RATE, **config)).eval()


def xcodec2():
    torch.manual_seed(0)
    return Xcodec2Model(Xcodec2Config(**FEATURE_CODEC)).eval()


def neucodec():
    torch.manual_seed(0)
    return NeuCodecModel(NeuCodecConfig(**FEATURE_CODEC)).eval()


def test_dac_speaks_with_its_first_codebook():
    model = dac()
    processor = processor_for(model)
    codes = processor.encode_audio((AUDIO, RATE))
    with torch.no_grad():
        padded = torch.nn.functional.pad(torch.from_numpy(AUDIO), (0, 640 - 8003 % 640))
        expected = model.encode(padded[None, None], n_quantizers=1).audio_codes
        values = model.decode(audio_codes=expected).audio_values
    assert codes == expected[0, 0].tolist()
    np.testing.assert_array_equal(processor.decode_codes(codes), values[0].numpy())
    assert processor.codec_config.frame_rate == 25


@pytest.mark.parametrize("bandwidth", [0.2, 0.5])  # of one codebook, and of two
def test_encodec_speaks_with_its_first_codebook(bandwidth):
    model = encodec(target_bandwidths=[bandwidth, 2.0])
    with torch.no_grad():  # a fresh one has codebooks of zeros
        model.quantizer.layers[0].codebook.embed.copy_(model.encoder(torch.from_numpy(AUDIO)[None, None])[0].T[:16])
    processor = processor_for(model)
    codes = processor.encode_audio((AUDIO, RATE))
    with torch.no_grad():
        encoded = model.encode(torch.from_numpy(AUDIO)[None, None])
        assert encoded.audio_codes.shape[2] == (1 if bandwidth == 0.2 else 2)
        expected = encoded.audio_codes[:, :, :1]
        values = model.decode(expected, encoded.audio_scales).audio_values
    assert len(set(codes)) > 1
    assert codes == expected[0, 0, 0].tolist()
    np.testing.assert_array_equal(processor.decode_codes(codes), values[0, 0].numpy())
    assert processor.codec_config.frame_rate == 50


@pytest.mark.parametrize("field", [{"normalize": True}, {"audio_channels": 2}, {"chunk_length_s": 1.0}])
def test_an_encodec_that_needs_more_than_codes_is_refused(field):
    with pytest.raises(ValueError, match=rf"needs more than codes to decode \({next(iter(field))}\)"):
        processor_for(encodec(**field))


def test_xcodec2_encodes_through_its_feature_extractor():
    model, extractor = xcodec2(), Xcodec2FeatureExtractor()
    processor = processor_for(CodecAdapter(model, extractor))
    codes = processor.encode_audio((AUDIO, RATE))
    with torch.no_grad():
        expected = model.encode(**extractor(AUDIO, sampling_rate=RATE, return_tensors="pt")).audio_codes
    assert codes == expected[0, 0].tolist()
    assert len(processor.decode_codes(codes)) == 320 * len(codes)
    with pytest.raises(ValueError, match=r"give `CodecAdapter\(model, feature_extractor\)`"):
        processor.codec = model


def test_neucodec_encodes_at_one_rate_and_decodes_at_another():
    processor = processor_for(CodecAdapter(neucodec(), Xcodec2FeatureExtractor()))
    config = processor.codec_config
    assert (config.sampling_rate, config.output_sampling_rate, config.frame_rate) == (16000, 24000, 50)
    codes = processor.encode_audio((AUDIO, RATE))
    assert len(processor.decode_codes(codes)) == 480 * len(codes)


CODECS = {
    "dac": lambda: CodecAdapter(dac()),
    "encodec": lambda: CodecAdapter(encodec()),
    "xcodec2": lambda: CodecAdapter(xcodec2(), Xcodec2FeatureExtractor()),
    "neucodec": lambda: CodecAdapter(neucodec(), Xcodec2FeatureExtractor()),
}


@pytest.mark.parametrize("name", CODECS)
@torch.no_grad()
def test_a_row_of_a_batch_is_encoded_and_decoded_as_alone(name):
    codec = CODECS[name]()
    config, waveforms = codec.config, [torch.from_numpy(AUDIO), torch.from_numpy(AUDIO[1000:4201])]
    values = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.5)[:, None]
    mask = torch.arange(len(AUDIO)) < torch.tensor([[len(audio)] for audio in waveforms])
    together = codec.encode(values, mask).audio_codes
    spoken = codec.decode(together).audio_values
    for row, audio in enumerate(waveforms):
        alone = codec.encode(audio[None, None]).audio_codes
        count = alone.shape[-1]
        assert abs(count - len(audio) / config.sampling_rate * config.frame_rate) <= 1
        assert torch.equal(together[row, :, :count], alone[0]) and (together[row, :, count:] == -1).all()
        own = codec.decode(alone).audio_values
        assert own.shape[-1] == count * config.output_sampling_rate / config.frame_rate
        assert torch.equal(spoken[row, :, : own.shape[-1]], own[0]) and not spoken[row, :, own.shape[-1] :].any()


@pytest.mark.parametrize("name", CODECS)
def test_in_a_stream_it_is_decoded_at_the_end_and_whole(name):
    processor = processor_for(CODECS[name]())
    codes = [3, 1, 15, 0, 7, 7, 2]
    stream = processor.codec_stream()
    assert len(stream.push(codes[:3])) == len(stream.push(codes[3:])) == 0
    np.testing.assert_array_equal(stream.finish(), processor.decode_codes(codes))


@pytest.mark.parametrize(
    ("values", "mask", "message"),
    [
        (torch.zeros(1, 2, 100), None, "one channel"),
        (torch.zeros(2, 1, 100), torch.zeros(2, 100), "ones followed by zeros"),
    ],
)
def test_what_is_no_audio_is_refused(values, mask, message):
    with pytest.raises(ValueError, match=message):
        CODECS["dac"]().encode(values, mask)


@pytest.mark.parametrize("codec", [dac, encodec, lambda: CodecAdapter(xcodec2(), Xcodec2FeatureExtractor())])
def test_an_adapted_codec_is_saved_and_found_again(codec, tmp_path):
    processor = processor_for(codec())
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.codec_config.codebook_size == 16
    assert loaded.encode_audio((AUDIO, RATE)) == processor.encode_audio((AUDIO, RATE))


def test_a_codec_without_an_adapter_names_what_it_lacks():
    with pytest.raises(ValueError, match=r"type 'mimi' cannot be used: its configuration lacks output_sampling_rate"):
        adapted_config(MimiConfig())
