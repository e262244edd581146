"""Audio files that are written while the audio is still coming."""

import numpy as np
import pytest
import soundfile

from processing_ttt import AudioWriter
from processing_ttt.audio_output_ttt import write_audio

AUDIO = (0.5 * np.sin(np.arange(5000) / 20)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_pieces_make_the_file_of_the_whole(tmp_path, ending):
    soundfile.write(tmp_path / f"whole.{ending}", AUDIO, 16000)
    with AudioWriter(tmp_path / f"pieces.{ending}", 16000) as writer:
        for piece in np.split(AUDIO, [1, 640, 640, 4000]):
            writer.write(piece)
        assert writer.seconds == 5000 / 16000
    assert (tmp_path / f"pieces.{ending}").read_bytes() == (tmp_path / f"whole.{ending}").read_bytes()


def test_an_interruption_leaves_a_file_of_what_came(tmp_path):
    with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / "reply.wav", 16000) as writer:
        writer.write(AUDIO)
        raise KeyboardInterrupt
    written, rate = soundfile.read(tmp_path / "reply.wav", dtype="float32")
    np.testing.assert_allclose(written, AUDIO, atol=2**-15)
    assert rate == 16000


@pytest.mark.parametrize("pieces", [[], [AUDIO[:0]]])
def test_no_audio_is_no_file(tmp_path, pieces):
    with AudioWriter(tmp_path / "reply.wav", 16000) as writer:
        for piece in pieces:
            writer.write(piece)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [0, 100], ids=["no header", "a header alone"])
def test_a_first_write_that_fails_leaves_no_file(tmp_path, room):
    resource = pytest.importorskip("resource", reason="a limit on the size of files acts as a full disk")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = AudioWriter(tmp_path / "reply.wav", 16000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="could not be written"), writer:
            writer.write(AUDIO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writer.seconds == 0 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["reply.wav", "reply.flac", "reply.ogg", "reply.mp3"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
def test_a_full_disk_is_one_sentence_and_leaves_no_cut_file(tmp_path, name, streams):
    resource = pytest.importorskip("resource", reason="a limit on the size of files acts as a full disk")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 200_000).astype(np.float32)  # noise stays large in any format
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"{name}' could not be written .*: the disk may be full"):
            if streams:
                with AudioWriter(tmp_path / name, 16000) as writer:
                    for piece in np.split(audio, 10):
                        writer.write(piece)
            else:
                write_audio(audio, tmp_path / name, 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_ending_is_refused_before_there_is_any_audio(tmp_path):
    with pytest.raises(ValueError, match=r"reply\.txt. has no known audio extension"):
        AudioWriter(tmp_path / "reply.txt", 16000)
