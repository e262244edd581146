import numpy as np
import pytest
import torch
from glm4_voice_fixtures import codes_of, noise, tiny_decoder_model, tiny_tokenizer_model

from processing_ttt.glm4_voice_decoder import DecodingNoise
from processing_ttt.glm4_voice_streaming import Glm4VoiceDecoderStream, Glm4VoiceTokenizerStream, VocoderStream

BLOCK = 40 * 320  # samples of an attention block of the small tokenizer; a segment has three and a half


def streamed(model, audio, sizes):
    """Codes of audio that comes in pieces of these sizes, and whether they are certain."""
    stream, codes = Glm4VoiceTokenizerStream(model), []
    for piece in audio.split(sizes):
        codes += stream.push(piece)
    return codes + stream.finish(), stream.exact


# -------------------------------------------------------------------------------------------------------------- hearing


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("sizes", [1601, 12800, 200000, [12839, 1, 30000], [44800]])
def test_codes_of_audio_that_is_coming_are_those_of_the_whole(sizes, attention):
    model, audio = tiny_tokenizer_model(), noise(100003)
    model.set_attn_implementation(attention)
    if isinstance(sizes, list):
        sizes = [*sizes, len(audio) - sum(sizes)]
    whole = model.encode(audio[None, None]).audio_codes[0, 0].tolist()
    assert len(set(whole)) > 10
    assert streamed(model, audio, sizes) == (whole, True)


@pytest.mark.parametrize("samples", [1, 1280, BLOCK, BLOCK + 1, 3 * BLOCK, 44800, 44801, 89600])
def test_audio_of_any_length_ends_well(samples):
    model, audio = tiny_tokenizer_model(), noise(samples)
    whole = model.encode(audio[None, None]).audio_codes[0, 0].tolist()
    assert streamed(model, audio, 5000) == (whole, True)


def test_a_block_is_given_out_once_its_last_window_is_full():
    stream = Glm4VoiceTokenizerStream(tiny_tokenizer_model())
    audio = noise(BLOCK + 200)
    assert stream.push(audio[: BLOCK + 199]) == []
    assert len(stream.push(audio[BLOCK + 199 :])) == 10


def test_only_the_open_block_is_encoded():
    model, frames = tiny_tokenizer_model(), []
    model.layers[0].register_forward_hook(lambda module, inputs, output: frames.append(output.shape[1]))
    streamed(model, noise(100003), 1280)
    assert frames == [40, 40, 40, 20] * 2 + [36]  # two segments, and 10403 samples of the third, in whole codes


def test_the_open_block_can_be_asked_for_and_changes_nothing():
    model, audio = tiny_tokenizer_model(), noise(60000)
    asked, plain, codes = Glm4VoiceTokenizerStream(model), Glm4VoiceTokenizerStream(model), []
    assert asked.open_codes() == []
    for index, piece in enumerate(audio.split(5000)):
        given = asked.push(piece)
        assert given == plain.push(piece)
        codes += given
        sofar = model.encode(audio[None, None, : 5000 * (index + 1)]).audio_codes[0, 0].tolist()
        assert codes + asked.open_codes() == sofar
    assert asked.finish() == plain.finish()


def test_a_stream_says_when_a_louder_place_came_too_late():
    model = tiny_tokenizer_model()
    audio = torch.cat([1e-7 * noise(BLOCK + 400), noise(BLOCK)])
    assert streamed(model, audio, 4000)[1] is False
    assert streamed(model, audio.flip(0), 4000)[1] is True


def test_a_finished_stream_takes_nothing_more():
    stream = Glm4VoiceTokenizerStream(tiny_tokenizer_model())
    assert stream.finish() == []
    with pytest.raises(RuntimeError, match="finished: begin a new one"):
        stream.push(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(9, np.int16), "floating point samples"),
        (np.full(9, np.nan, np.float32), "NaN or infinite"),
        (np.zeros((1, 9), np.float32), r"got the shape \(1, 9\)"),
    ],
)
def test_what_is_no_audio_of_one_channel_is_refused_as_it_comes(samples, message):
    with pytest.raises(ValueError, match=message):
        Glm4VoiceTokenizerStream(tiny_tokenizer_model()).push(samples)


# ------------------------------------------------------------------------------------------------------------- speaking


def frames_of_stream(monkeypatch, model, codes, size, **options):
    """The frames that a stream settles, in order."""
    frames = []
    monkeypatch.setattr(VocoderStream, "push", lambda self, mel, last=False: frames.append(mel) or torch.zeros(0))
    stream = Glm4VoiceDecoderStream(model, **options)
    for piece in codes.split(size):
        stream.push(piece)
    stream.finish()
    return torch.cat(frames, dim=-1)[0]


@pytest.mark.parametrize("size", [1, 8, 26, 300])
def test_frames_stand_where_their_codes_do_also_when_early_codes_are_forgotten(monkeypatch, size):
    model = tiny_decoder_model(flow={"vocab_size": 512})

    def mean(codes, num_codes):  # of each frame: its own number, since code i is i
        frames = torch.arange(num_codes[0] * 441 // 64) + codes[0, 0] * 441 // 64
        return frames.float().expand(1, 8, -1)

    monkeypatch.setattr(model.flow, "mean", mean)
    monkeypatch.setattr(model.flow, "sample", lambda mean, *args, **kwargs: mean)
    frames = frames_of_stream(monkeypatch, model, torch.arange(301), size)
    torch.testing.assert_close(frames[3], torch.arange(301 * 441 // 64).float(), rtol=1e-6, atol=0)


def test_a_frame_is_made_from_the_same_noise_in_every_window(monkeypatch):
    model = tiny_decoder_model()
    monkeypatch.setattr(model.flow, "sample", lambda mean, num_frames, noise, **kwargs: noise)
    frames = frames_of_stream(monkeypatch, model, codes_of(200)[0, 0], 8)
    torch.testing.assert_close(frames, DecodingNoise(model.config).mel(200 * 441 // 64))


def test_a_window_is_prompted_with_the_very_frames_that_were_given_out(monkeypatch):
    model, prompts = tiny_decoder_model(), []
    sample = model.flow.sample
    monkeypatch.setattr(
        model.flow, "sample", lambda *args, **kwargs: prompts.append(kwargs["prompt_mel"][0]) or sample(*args, **kwargs)
    )
    frames = frames_of_stream(monkeypatch, model, codes_of(24)[0, 0], 8, prompt_frames=30, overlap_frames=6)
    assert [prompt.shape[1] for prompt in prompts] == [0, 29, 30]  # each begins at an even frame
    assert torch.equal(prompts[1], frames[:, 20:49])  # 55 frames of 8 codes, 6 of them wait
    assert torch.equal(prompts[2], frames[:, 74:104])


def test_a_reply_in_one_piece_is_the_reply_at_once():
    model, codes, voice = tiny_decoder_model(), codes_of(20), torch.randn(1, 6)
    options = {"num_inference_steps": 2, "guidance_scale": 0.3, "speaker_embedding": voice}
    stream = Glm4VoiceDecoderStream(model, generator=torch.Generator().manual_seed(9), **options)
    pieces = torch.from_numpy(np.concatenate([stream.push(codes[0, 0]), stream.finish()]))
    assert pieces.dtype == torch.float32
    whole = model.decode(codes, generator=torch.Generator().manual_seed(9), **options).audio_values[0, 0]
    torch.testing.assert_close(pieces, whole, atol=2e-5, rtol=0)


def test_pieces_are_spoken_as_soon_as_they_can_be():
    model, codes = tiny_decoder_model(), codes_of(40)[0, 0]
    stream = Glm4VoiceDecoderStream(model, overlap_frames=10)
    config = model.config.vocoder_config
    for count in range(8, 41, 8):
        spoken = stream.push(codes[count - 8 : count])
        waiting = 10 + config.context_frames + config.f0_context_frames
        total = count * 441 // 64 - waiting
        previous = max((count - 8) * 441 // 64 - waiting, 0) if count > 8 else 0
        assert len(spoken) == (total - previous) * 256


@pytest.mark.parametrize("options", [{"overlap_frames": -1}, {"prompt_frames": -1}, {"prompt_frames": 10000}])
def test_windows_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match="overlap_frames must be at least 0 and prompt_frames in 0"):
        Glm4VoiceDecoderStream(tiny_decoder_model(), **options)


def test_what_is_no_code_is_refused():
    with pytest.raises(ValueError, match=r"lie in 0..63, got \[5, 64\]"):
        Glm4VoiceDecoderStream(tiny_decoder_model()).push([5, 64])
