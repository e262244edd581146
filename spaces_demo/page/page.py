"""
The page: a conversation, what happened inside the model while it answered, and controls.

Knows Gradio's layout and events. What a turn does is `exchange.py`'s, what it looks like `pictures.py`'s, sound in the browser `voice.js`'s.
"""

import base64
import binascii
import uuid
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..http.endpoints import register_endpoints, user_of
from ..service import DemoError, SoundFile, TalkService
from ..service.turn_detection import hear
from .controls import Controls, read_controls
from .examples import EXAMPLES, ExampleCache, question_bytes
from .pictures import SHADES_LEGEND, TIMELINE_LEGEND, figures, span_cards, timeline
from .session import Exchange, Question, Session, player_value

STATIC = Path(__file__).parent / "static"
LOOKS = {
    "theme": gr.themes.Soft(
        primary_hue="violet",
        secondary_hue="violet",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
    ),
    "css_paths": STATIC / "page.css",
}
TITLE = """
<header class="ttt-title">
<svg viewBox="0 0 64 40" width="64" height="40" aria-hidden="true"><g class="letters"><rect x="2" y="17" width="6" height="6" rx="2"/><rect x="11" y="17" width="6" height="6" rx="2"/></g><g class="sound"><rect x="22" y="12" width="5" height="16" rx="2.5"/><rect x="30" y="4" width="5" height="32" rx="2.5"/><rect x="38" y="10" width="5" height="20" rx="2.5"/></g><g class="letters"><rect x="49" y="17" width="6" height="6" rx="2"/><rect x="58" y="17" width="6" height="6" rx="2"/></g></svg>
<div><h1>Text-to-Talk</h1><p>One Transformer that <b class="letters">writes</b> token by token and <b class="sound">speaks</b> by denoising blocks of sound.</p></div>
</header>
"""
# What there is to ask, by the name of the model.
KNOWN = {
    "ttt-nano": "Nano understands spoken English in many voices, and knows a small world: sums up to twenty, clock and "
    "calendar, units, capitals, colours, opposites, spelling, rhymes, jokes."
}
NOTHING_YET = '<p class="nothing-yet">Ask something: what the model does will be drawn here while it answers.</p>'
CARDS = '<div class="span-cards">${value.join("")}</div>'


def voice(rate: int, max_seconds: float) -> gr.HTML:
    """
    Make the button to talk, and the player of replies.

    Args:
        rate (`int`): Samples per second of a reply.
        max_seconds (`float`): Longest question.

    Returns:
        `gr.HTML`: With the events `asked`, which brings the `sound` of a wav file in base64, and `stopped`.
    """
    return gr.HTML(
        value=None,
        html_template=(STATIC / "voice.html").read_text(encoding="utf-8"),
        js_on_load=(STATIC / "voice.js").read_text(encoding="utf-8"),
        server_functions=[hear],
        apply_default_css=False,
        elem_id="voice",
        rate=rate,
        max_seconds=max_seconds,
    )


def by_name(services: Sequence[TalkService]) -> dict[str, TalkService]:
    """
    Name services as people choose them.

    Args:
        services (`Sequence[TalkService]`): Of different models.

    Returns:
        `dict[str, TalkService]`: By the last part of their models' names; by the whole name where several end alike.
    """
    whole = [str(one.model.name_or_path or "model") for one in services]
    last = [Path(name).name for name in whole]
    names = [short if last.count(short) == 1 else name for short, name in zip(last, whole, strict=True)]
    return dict(zip(names, services, strict=True))


def build_demo(service: TalkService, *more: TalkService) -> gr.Blocks:
    """
    Build the page.

    Args:
        service ([`TalkService`]): Answers.
        more ([`TalkService`]): Others that can be chosen instead.

    Returns:
        `gr.Blocks`: Ready to be mounted or launched, with `LOOKS`.
    """
    services = by_name((service, *more))
    with gr.Blocks(title="Text-to-Talk", delete_cache=(60, 3600)) as demo:
        Page(services)
        register_endpoints(service)
    return demo


class Page:
    """
    Components and events, made inside the `gr.Blocks` that is being built.

    Args:
        services (`dict[str, TalkService]`): By the name of their models; the first is chosen at first.
    """

    def __init__(self, services: dict[str, TalkService]):
        self.services = services
        self.examples = ExampleCache()
        service = next(iter(services.values()))
        limits = service.limits
        self.session = gr.State(None, delete_callback=lambda session: session and session.close())
        gr.HTML(TITLE, apply_default_css=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self.chat = gr.Chatbot(
                    label="Conversation",
                    height=380,
                    render_markdown=False,
                    latex_delimiters=[],
                    buttons=[],
                    placeholder=f"Tap the microphone, write, or try an example. {KNOWN.get(next(iter(services)), '')}",
                    elem_id="chat",
                )
                self.voice = voice(service.processor.codec_config.output_sampling_rate, limits.question_seconds)
                self.box = gr.MultimodalTextbox(
                    label="Your question",
                    show_label=False,
                    placeholder="… or write, or upload a sound",
                    file_types=list(limits.file_types),
                    file_count="single",
                    sources=["upload"],
                    max_plain_text_length=10**6,  # the service says how long a text may be
                    elem_id="box",
                )
                example_row = gr.Dataset(
                    components=[gr.Textbox(visible=False)],
                    samples=[[example.label] for example in EXAMPLES],
                    label="Examples (spoken)",
                    type="index",
                    elem_id="examples",
                )
                with gr.Row(elem_id="actions"):
                    retry = gr.Button("Retry", size="sm", min_width=80)
                    clear = gr.Button("Clear", size="sm", min_width=80)
                    self.download = gr.DownloadButton("Save speech", size="sm", min_width=110, interactive=False)
            with gr.Column(scale=6, min_width=320, elem_id="inside"):
                self.figures = gr.HTML(figures(), apply_default_css=False, elem_id="figures")
                gr.HTML(
                    "<h2>When it is computed, and when it is heard</h2>" + TIMELINE_LEGEND,
                    apply_default_css=False,
                    elem_classes="heading",
                )
                self.timeline = gr.HTML(NOTHING_YET, apply_default_css=False, elem_id="timeline")
                gr.HTML(
                    "<h2>How each span of sound was denoised</h2>" + SHADES_LEGEND,
                    apply_default_css=False,
                    elem_classes="heading",
                )
                self.cards = gr.HTML([], html_template=CARDS, apply_default_css=False, elem_id="cards")
        controls = Controls(services)
        self._shown = [
            self.session,
            self.chat,
            self.voice,
            self.box,
            self.download,
            self.figures,
            self.timeline,
            self.cards,
        ]
        asked = [self.session, controls.model, *controls.components]
        # The service bounds what is served at once, and says how long the rest waits.
        turn: dict[str, Any] = {
            "outputs": self._shown,
            "concurrency_limit": None,
            "trigger_mode": "multiple",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        self.voice.asked(self.ask_aloud, asked, **turn)
        self.box.submit(self.ask_in_writing, [self.box, *asked], **turn)
        example_row.click(self.ask_example, [example_row, *asked], **turn)
        retry.click(self.retry, asked, **turn)
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.voice.stopped(self.stop, self.session, None, **quick)
        for anew in (clear.click, self.chat.clear, controls.model.change):
            anew(self.clear, [self.session, controls.model], self._shown, **quick)

    # Events: a generator shows the session as it goes

    def ask_aloud(
        self, event: gr.EventData, request: gr.Request, session: Session | None, model: str, *controls: Any
    ) -> Iterator[Any]:
        """Answer what was said into the microphone."""
        try:
            sound = SoundFile(base64.b64decode(event._data["sound"], validate=True), "question.wav")
        except (TypeError, KeyError, ValueError, binascii.Error):
            yield from self._refuse(session, DemoError("The microphone sent no sound: try again."))
            return
        yield from self._ask(session, model, controls, request, None, sound)

    def ask_in_writing(
        self, request: gr.Request, message: dict[str, Any], session: Session | None, model: str, *controls: Any
    ) -> Iterator[Any]:
        """Answer what was written or uploaded."""
        files = message.get("files") or []
        sound = _uploaded(files[0]) if files else None
        yield from self._ask(session, model, controls, request, message.get("text") or None, sound)

    def ask_example(
        self, request: gr.Request, index: int, session: Session | None, model: str, *controls: Any
    ) -> Iterator[Any]:
        """Answer an example; what was answered before is played again."""
        sound = SoundFile(question_bytes(EXAMPLES[index]), EXAMPLES[index].file)
        yield from self._ask(session, model, controls, request, None, sound)

    def retry(self, request: gr.Request, session: Session | None, model: str, *controls: Any) -> Iterator[Any]:
        """Ask the last question again, with the controls as they are now."""
        question = session.take_back() if session else None
        if question is None:
            gr.Info("There is nothing to ask again yet.")
            return
        yield from self._ask(session, model, controls, request, question.text, question.sound)

    def stop(self, session: Session | None) -> None:
        """Stop the reply that is coming."""
        if session is not None:
            session.stop()

    def clear(self, session: Session | None, model: str) -> tuple[Any, ...]:
        """Begin a new conversation."""
        if session is not None:
            session.clear(self.services[model])
        return self._show(session)

    def _ask(
        self,
        session: Session | None,
        model: str,
        controls: tuple[Any, ...],
        request: gr.Request,
        text: str | None,
        sound: SoundFile | None,
    ) -> Iterator[Any]:
        session = session or Session(self.services[model], user_of(request))
        adapter, task, options = read_controls(controls)
        question = Question(task, text, sound, options, adapter)
        try:
            for count, _ in enumerate(self.examples.ask(session, question)):
                yield self._show(session, keeps_box=count > 0)  # who writes on while it answers, writes on
        except DemoError as error:
            yield from self._refuse(session, error)

    def _refuse(self, session: Session | None, error: DemoError) -> Iterator[Any]:
        """Say why not; what was written stays where it is, and what was said before is seen as before."""
        gr.Warning(escape(str(error)), title="Please note")  # an error would cover the conversation
        yield self._show(session, keeps_box=True, is_refused=True)

    # From the session to what is seen

    def _show(self, session: Session | None, keeps_box: bool = False, is_refused: bool = False) -> tuple[Any, ...]:
        exchanges = session.exchanges if session else []
        last = exchanges[-1] if exchanges else None
        summary = last.summary if last else None
        return (
            session,
            [message for exchange in exchanges for message in messages(exchange)],
            # The browser is told what differs from before, and the button shows "thinking" until it is told something.
            player_value(last) | ({"refused": uuid.uuid4().hex} if is_refused else {}),
            gr.skip() if keeps_box else {"text": "", "files": []},
            gr.DownloadButton(value=last.reply_file, interactive=True)
            if last and last.reply_file
            else gr.DownloadButton(value=None, interactive=False),
            figures(
                last.trace.first_audio if last else None,
                summary.real_time_factor if summary else None,
                summary.tokens_per_forward if summary and summary.num_forwards else None,
            ),
            (timeline(last.trace) if last else "") or NOTHING_YET,
            span_cards(last.trace) if last else [],
        )


def messages(exchange: Exchange) -> list[dict[str, Any]]:
    """
    Write an exchange as the messages of a `gr.Chatbot`: text as it is, sounds as files to be played.

    The chatbot draws text as (sanitized) HTML even where it renders no Markdown, so what people and models write is escaped here.

    Args:
        exchange ([`Exchange`]): A question, and its reply as far as it came.

    Returns:
        `list[dict]`: The user's messages and the assistant's.
    """
    said = [
        ("user", exchange.question_file and {"path": str(exchange.question_file)}),
        ("user", exchange.question.text),
        ("user", exchange.heard and f"“{exchange.heard}”"),
        ("assistant", exchange.trace.text.strip() or None),
        ("assistant", exchange.reply_file and {"path": str(exchange.reply_file)}),
        ("assistant", exchange.error),
    ]
    return [
        {"role": role, "content": escape(content, quote=False) if isinstance(content, str) else content}
        for role, content in said
        if content
    ]


def _uploaded(path: str) -> SoundFile:
    """Read a file that Gradio put into its own folder, whose name is all that the user chose."""
    return SoundFile(Path(path).read_bytes(), Path(path).name)
