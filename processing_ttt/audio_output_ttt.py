"""
Write audio files: a whole waveform at once, or piece by piece. The extension of the file name gives the format.

Depends on soundfile. Independent of replies, codecs and token ids.
"""

import os

import numpy as np
import soundfile
import torch

AUDIO_FORMATS = ("WAV", "FLAC", "OGG", "MP3")


def write_audio(audio: np.ndarray | torch.Tensor, path: str | os.PathLike, sampling_rate: int) -> None:
    """
    Write audio to a file, in the format of its extension (wav, flac, ogg, mp3).

    Args:
        audio (`np.ndarray` or `torch.Tensor` of shape `(samples,)`): Mono samples.
        path (`str` or `os.PathLike`): The file.
        sampling_rate (`int`): Rate of the audio, in Hz.

    Raises:
        ValueError: If the audio is empty, damaged or not mono, or the extension is unknown.
        OSError: If the disk is full, or the file cannot be written; a file that was cut is removed.
    """
    samples = audio.detach().float().cpu().numpy() if isinstance(audio, torch.Tensor) else np.asarray(audio)
    samples = samples.squeeze() if samples.ndim > 1 else samples
    if samples.size == 0:
        raise ValueError(f"There is no audio to write to {os.fspath(path)!r}: the reply is text only.")
    if samples.ndim != 1:
        raise ValueError(
            f"Audio must have the shape (samples,), but {samples.shape} came: save each waveform to its own file."
        )
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ValueError(f"The audio for {os.fspath(path)!r} contains NaN or infinite samples: it is damaged.")
    if samples.dtype.kind != "f" and samples.dtype not in (np.int16, np.int32):
        raise ValueError(f"The samples to write are {samples.dtype}: convert them to float in [-1, 1], int16 or int32.")
    format = audio_format(path)
    try:
        soundfile.write(os.fspath(path), samples, sampling_rate, format=format)
    except soundfile.LibsndfileError as error:
        raise _not_written(path, error) from error


class AudioWriter:
    """
    Writes an audio file piece by piece. The file appears with the first samples and is valid after `close`, whenever
    that is.

    Args:
        path (`str` or `os.PathLike`): The file; its extension gives the format (wav, flac, ogg, mp3).
        sampling_rate (`int`): Rate of the audio, in Hz.

    Raises:
        ValueError: If the extension is unknown.
        OSError: From `write`, if the disk is full, or the file cannot be written; the file is removed.

    Example:
        ```python
        with AudioWriter("reply.wav", 16000) as writer:
            for chunk in chunks:
                writer.write(chunk)
        ```
    """

    def __init__(self, path: str | os.PathLike, sampling_rate: int):
        self.path = path
        self.sampling_rate = sampling_rate
        self._format = audio_format(path)
        self._file: soundfile.SoundFile | None = None
        self.num_samples = 0  # in the file

    def write(self, samples: np.ndarray) -> None:
        """Write the next samples, float32 of shape `(samples,)`."""
        if self._file is None:
            self._file = self._open()
        # Counted first: an interrupt may come when the samples are in the file but `write` has not returned, and
        # `close` must not remove them.
        self.num_samples += len(samples)
        try:
            self._file.write(samples)
        except soundfile.LibsndfileError as error:
            self.num_samples = 0  # the file is removed by `close`
            raise _not_written(self.path, error) from error

    def _open(self) -> soundfile.SoundFile:
        try:
            return soundfile.SoundFile(os.fspath(self.path), "w", self.sampling_rate, channels=1, format=self._format)
        except soundfile.LibsndfileError as error:
            raise _not_written(self.path, error) from error

    @property
    def seconds(self) -> float:
        """Length of the written audio, in seconds."""
        return self.num_samples / self.sampling_rate

    def close(self) -> None:
        """Complete the file; remove it if it has no samples."""
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            finally:
                if not self.num_samples:
                    _remove_cut(self.path)

    def __enter__(self) -> "AudioWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _not_written(path: str | os.PathLike, error: Exception) -> OSError:
    """Remove a file that was cut, and describe why."""
    _remove_cut(path)
    return OSError(
        f"{os.fspath(path)!r} could not be written ({error}): the disk may be full, or the folder read-only."
    )


def _remove_cut(path: str | os.PathLike) -> None:
    if os.path.isfile(path):  # not a device
        os.remove(path)


def audio_format(path: str | os.PathLike) -> str:
    """
    Read the format off a file's extension.

    Args:
        path (`str` or `os.PathLike`): The file.

    Returns:
        `str`: Name of the format in soundfile.

    Raises:
        ValueError: If the extension is unknown.
    """
    extension = os.path.splitext(os.fspath(path))[1][1:].upper()
    if extension not in AUDIO_FORMATS or extension not in soundfile.available_formats():
        raise ValueError(f"{os.fspath(path)!r} has no known audio extension: use .wav, .flac, .ogg or .mp3.")
    return extension
