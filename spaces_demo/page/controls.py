"""
The closed panel of controls: which model, which adapter, which task, and how to decode.

Depends on Gradio and the service's options. The first value of a control is that of the checkpoint's generation config.
"""

from typing import Any, TypedDict

import gradio as gr

from modeling_ttt.generation_options_ttt import GENERATION_DEFAULTS

from ..service import AudioFile, DecodingOptions, TalkRequest, TalkService
from ..service.request import MAX_DENOISING_STEPS

TASKS = {"Chat": "chat", "Transcribe": "asr", "Speak": "tts"}
NO_ADAPTER = "none"
RULES = {  # in words, the rules of `REMASKING_RULES`
    "low_confidence": "the most probable",
    "calibrated": "the most probable, compared with how common it is",
    "random": "any",
}
MAX_SHOWN_BOUND = 4.0  # nats


class Controls:
    """
    The panel, made inside the `gr.Blocks` that is being built.

    Args:
        services (`dict[str, TalkService]`): Services by the names of their models; the first is chosen at first.

    Attributes:
        components (`list`): In the order in which `read_controls` takes their values.
    """

    def __init__(self, services: dict[str, TalkService]):
        name, service = next(iter(services.items()))
        defaults = decoding_defaults(service)
        with gr.Accordion("Controls", open=False, elem_id="controls"):
            with gr.Row():
                self._add_choices(services, name, service)
            with gr.Row():
                self._add_denoising(defaults)
            with gr.Row():
                self._add_temperatures(defaults)
            with gr.Row():
                self._add_guidance_speed_and_seed(defaults)
        self.components = [
            self.adapter,
            self.task,
            self.steps,
            self.rule,
            self.temperature,
            self.audio_temperature,
            self.guidance,
            self.entropy_bound,
            self.seed,
            self.speed,
        ]

    def _add_choices(self, services: dict[str, TalkService], name: str, service: TalkService) -> None:
        self.model = gr.Dropdown(list(services), value=name, label="Model", interactive=len(services) > 1)
        self.adapter = gr.Dropdown(
            [NO_ADAPTER, *service.adapters],
            value=NO_ADAPTER,
            label="Adapter (language)",
            interactive=bool(service.adapters),
        )
        self.task = gr.Radio(
            list(TASKS.items()),
            value="chat",
            label="Task",
            info="Answer, transcribe, or read aloud.",
        )

    def _add_denoising(self, defaults: "DecodingDefaults") -> None:
        self.steps = gr.Slider(
            1,
            MAX_DENOISING_STEPS // 2,
            value=defaults["denoising_steps"],
            step=1,
            label="Steps for a piece of audio, at most",
            info="Denoising steps: fewer are faster.",
        )
        self.entropy_bound = gr.Slider(
            0,
            MAX_SHOWN_BOUND,
            value=defaults["entropy_bound"],
            step=0.05,
            label="How much one step may decide",
            info="Entropy bound, in nats: more is faster; 0 decides the same number in each step.",
        )
        self.rule = gr.Dropdown(
            [(label, rule) for rule, label in RULES.items()],
            value=defaults["remasking"],
            label="What is decided first",
            info="The order within a piece of audio (remasking).",
        )

    def _add_temperatures(self, defaults: "DecodingDefaults") -> None:
        self.temperature = gr.Slider(
            0,
            2,
            value=defaults["temperature"],
            step=0.05,
            label="Variety of words",
            info="Temperature: 0 always takes the most probable word.",
        )
        self.audio_temperature = gr.Slider(
            0,
            2,
            value=defaults["audio_temperature"],
            step=0.05,
            label="Variety of voice",
            info="Temperature of audio: 0 always takes the most probable.",
        )

    def _add_guidance_speed_and_seed(self, defaults: "DecodingDefaults") -> None:
        self.guidance = gr.Slider(
            0,
            3,
            value=defaults["audio_guidance_scale"],
            step=0.05,
            label="Clearness of voice",
            info="Guidance: how strongly audio follows the words; 0 is off.",
        )
        self.speed = gr.Slider(
            0.5,
            2,
            value=1,
            step=0.05,
            label="Speed of voice",
            info="How fast the next reply is played; the pitch stays.",
        )
        self.seed = gr.Number(
            value=0,
            precision=0,
            minimum=0,
            maximum=2**31 - 1,
            label="Seed",
            info="Of what is random: the same seed gives the same reply. Retry takes another one.",
        )


def read_controls(values: tuple[Any, ...], text: str | None, audio: AudioFile | None) -> TalkRequest:
    """
    Write a request from a question and the values of `Controls.components`.

    Args:
        values (`tuple`): As Gradio hands them over.
        text (`str`, *optional*): The user's text.
        audio ([`AudioFile`], *optional*): The user's audio.

    Returns:
        [`TalkRequest`]: Checked by the service later.
    """
    adapter, task, steps, rule, temperature, audio_temperature, guidance, entropy_bound, seed, speed = values
    options = DecodingOptions(
        denoising_steps=steps,
        remasking=rule,
        temperature=temperature,
        audio_temperature=audio_temperature,
        audio_guidance_scale=guidance,
        entropy_bound=entropy_bound,
        seed=seed,
    )
    chosen = None if adapter == NO_ADAPTER else adapter
    return TalkRequest(task, text, audio, options=options, adapter=chosen, speed=speed)


class DecodingDefaults(TypedDict):
    """What a checkpoint decodes with; 0 is off."""

    denoising_steps: int
    remasking: str
    temperature: float
    audio_temperature: float
    audio_guidance_scale: float
    entropy_bound: float


def decoding_defaults(service: TalkService) -> DecodingDefaults:
    """
    Read what the checkpoint decodes with.

    Args:
        service ([`TalkService`]): Holds the model.

    Returns:
        [`DecodingDefaults`].
    """
    config = service.model.generation_config

    def chosen(name: str) -> Any:
        value = getattr(config, name, None)
        return GENERATION_DEFAULTS[name] if value is None else value

    return {
        "denoising_steps": chosen("denoising_steps"),
        "remasking": chosen("remasking"),
        "temperature": (config.temperature or 1.0) if config.do_sample else 0,
        "audio_temperature": chosen("audio_temperature"),
        "audio_guidance_scale": chosen("audio_guidance_scale") or 0,
        "entropy_bound": chosen("entropy_bound") or 0,
    }
