"""
The page: a conversation, what happened inside the model while it answered, and controls.

Depends on Gradio. The button to talk is in `voice.py`, a turn in `session.py`, its text in `messages.py`; its pictures
are in `pictures.py`.
"""

import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_space

from ..http.endpoints import register_endpoints, user_of
from ..service import AudioFile, RequestError, TalkRequest, TalkService
from .about import about
from .controls import Controls, read_controls
from .examples import EXAMPLES, ExampleCache, question_bytes
from .messages import chat_messages
from .pictures import SHADES_LEGEND, TIMELINE_LEGEND, figures, span_cards, timeline
from .session import Session, ShownTurn, player_value
from .voice import STATIC, name_in, recording_in, seconds_in, voice

LOOKS: dict[str, Any] = {
    "theme": gr.themes.Soft(
        primary_hue="violet",
        secondary_hue="violet",
        neutral_hue="slate",
        radius_size="lg",
        font=["system-ui", "sans-serif"],
    ).set(
        block_border_width="1px",
        # Where the theme's contrast is below 4.5 to 1:
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        block_info_text_color="*neutral_500",
        body_text_color_subdued="*neutral_500",
        checkbox_label_background_fill_selected="*primary_600",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        link_text_color_dark="*secondary_300",
    ),
    "css_paths": STATIC / "page.css",
}
TITLE = (STATIC / "title.html").read_text(encoding="utf-8")  # with a place for what can be asked
# What can be asked, by the name of the model.
KNOWN = {
    "ttt-nano": "Nano understands spoken English in many voices, and knows a small world: sums up to twenty, clock and "
    "calendar, units, capitals, colours, opposites, spelling, rhymes, jokes."
}
MAX_DECIDED = 1000  # questions whose confirmation or withdrawal is remembered because it came before they did
NOTHING_YET = '<p class="nothing-yet">Ask something: what the model does will be drawn here while it answers.</p>'
SHOW_PRIVACY = """
if (["localhost", "127.0.0.1", "[::1]"].includes(location.hostname)) element.querySelector(".privacy").hidden = false;
"""
CARDS = '<div class="span-cards">${value.join("")}</div>'


def by_name(services: Sequence[TalkService]) -> dict[str, TalkService]:
    """
    Name services as people choose them.

    Args:
        services (`Sequence[TalkService]`): Services of different models.

    Returns:
        `dict[str, TalkService]`: By the last part of their models' names, or by the whole name where several end alike.
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
        more ([`TalkService`]): Services of other models, which can be chosen instead.

    Returns:
        `gr.Blocks`: Ready to be mounted or launched, with `LOOKS`.
    """
    services = by_name((service, *more))
    with gr.Blocks(title="Text-to-Talk", delete_cache=(60, 3600), analytics_enabled=False) as demo:
        Page(services)
        register_endpoints(service)
    demo.state_session_capacity = service.limits.visits
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
        self._asking: dict[str, Session] = {}  # by the name of the turn, from its question to the end of its reply
        self._decided: OrderedDict[str, bool] = OrderedDict()  # what came early: whether a question is confirmed
        limits = next(iter(services.values())).limits
        self.session = gr.State(
            None, time_to_live=limits.visit_seconds, delete_callback=lambda session: session and session.close()
        )
        gr.HTML(
            html_template=TITLE.replace("{known}", KNOWN.get(next(iter(services)), "")),
            js_on_load=SHOW_PRIVACY,
            apply_default_css=False,
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._build_conversation()
            with gr.Column(scale=6, min_width=320, elem_id="inside"):
                self._build_pictures()
        self.controls = Controls(services)
        for name, one in services.items():
            suffix = f" of {name}" if len(services) > 1 else ""
            with gr.Accordion(f"Code, paper, model card and licence{suffix}", open=False, elem_classes="about"):
                gr.Markdown(about(str(one.model.name_or_path or ""), get_space()))
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
        self._connect()

    def _build_conversation(self) -> None:
        service = next(iter(self.services.values()))
        limits = service.limits
        self.chat = gr.Chatbot(
            label="Conversation",
            show_label=False,
            min_height=150,
            height="auto",  # up to the limit in page.css
            render_markdown=False,
            latex_delimiters=[],
            buttons=[],
            placeholder="Tap the microphone, write, or try an example.",
            elem_id="chat",
            elem_classes=[] if get_space() else ["without-sharing"],  # Gradio shares to the Hub, and only from Spaces
        )
        self.voice = voice(service.processor.codec_config.output_sampling_rate, limits.question_seconds)
        self.box = gr.MultimodalTextbox(
            label="Your question",
            show_label=False,
            placeholder="… or write, or upload audio",
            file_types=list(limits.file_types),
            file_count="single",
            sources=["upload"],
            max_plain_text_length=10**6,  # the service limits the text, with a message
            elem_id="box",
        )
        self.example_row = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            samples=[[example.label] for example in EXAMPLES],
            label="Examples (spoken)",
            type="index",
            elem_id="examples",
        )
        with gr.Row(elem_id="actions"):
            self.retry_button = gr.Button("Retry", size="sm", min_width=80)
            self.clear_button = gr.Button("Clear", size="sm", min_width=80)
            self.download = gr.DownloadButton("Save speech", size="sm", min_width=110, interactive=False)

    def _build_pictures(self) -> None:
        self.figures = gr.HTML(figures(), apply_default_css=False, elem_id="figures")
        gr.HTML(
            "<h2>When it is computed, and when it is played</h2>" + TIMELINE_LEGEND,
            apply_default_css=False,
            elem_classes="heading",
        )
        self.timeline = gr.HTML(NOTHING_YET, apply_default_css=False, elem_id="timeline")
        gr.HTML(
            "<h2>How each span of audio was denoised</h2>" + SHADES_LEGEND,
            apply_default_css=False,
            elem_classes="heading",
        )
        self.cards = gr.HTML([], html_template=CARDS, apply_default_css=False, elem_id="cards")

    def _connect(self) -> None:
        asked = [self.session, self.controls.model, *self.controls.components]
        # The service limits what is served at once, and reports how long the rest waits.
        turn: dict[str, Any] = {
            "outputs": self._shown,
            "concurrency_limit": None,
            "trigger_mode": "multiple",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        self.voice.asked(self.ask_aloud, asked, **turn)
        self.box.submit(self.ask_in_writing, [self.box, *asked], **turn)
        self.example_row.click(self.ask_example, [self.example_row, *asked], **turn)
        self.retry_button.click(self.retry, asked, **turn)
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.voice.confirmed(self.confirm, self.session, self._shown, **quick)
        self.voice.withdrawn(self.withdraw, self.session, self._shown, **quick)
        self.voice.interrupted(self.interrupt, self.session, self._shown, **quick)
        self.voice.played(self.note_first_audio, self.session, self.figures, **quick)
        for anew in (self.clear_button.click, self.controls.model.change):
            anew(self.clear, [self.session, self.controls.model], self._shown, **quick)

    # Events: a generator shows the session again and again while it changes

    def ask_aloud(
        self, event: gr.EventData, request: gr.Request, session: Session | None, model: str, *controls: object
    ) -> Iterator[Any]:
        """Answer a question from the microphone."""
        audio = recording_in(event)
        if audio is None:
            yield from self._refuse(session, RequestError("The microphone sent no audio: try again."))
            return
        yield from self._ask(session, model, request, read_controls(controls, None, audio), name_in(event))

    def ask_in_writing(
        self, request: gr.Request, message: dict[str, Any], session: Session | None, model: str, *controls: object
    ) -> Iterator[Any]:
        """Answer what was written or uploaded."""
        files = message.get("files") or []
        audio = _uploaded(files[0]) if files else None
        asked = read_controls(controls, message.get("text") or None, audio)
        yield from self._ask(session, model, request, asked)

    def ask_example(
        self, request: gr.Request, index: int, session: Session | None, model: str, *controls: object
    ) -> Iterator[Any]:
        """Answer an example; one that was answered before is answered from memory."""
        audio = AudioFile(question_bytes(EXAMPLES[index]), EXAMPLES[index].file)
        yield from self._ask(session, model, request, read_controls(controls, None, audio))

    def retry(self, request: gr.Request, session: Session | None, model: str, *controls: object) -> Iterator[Any]:
        """Ask the last question again, with the controls as they are now."""
        before = session.take_back() if session else None
        if before is None:
            gr.Info("There is nothing to ask again yet.")
            return
        # The same question with the same controls is answered differently (`varied`).
        audio = before.audio if isinstance(before.audio, AudioFile) else None
        yield from self._ask(session, model, request, read_controls(controls, before.text, audio))

    def confirm(self, event: gr.EventData, session: Session | None) -> Any:
        """Show a question that is certainly over."""
        return self._decide(event, session, True, Session.confirm)

    def withdraw(self, event: gr.EventData, session: Session | None) -> Any:
        """Take a question back whose speaker goes on."""
        return self._decide(event, session, False, Session.withdraw)

    def interrupt(self, event: gr.EventData, session: Session | None) -> Any:
        """Stop a reply where its listener interrupted it."""
        seconds = seconds_in(event)
        return self._decide(event, session, False, lambda session, name: session.interrupt(name, seconds))

    def _decide(
        self, event: gr.EventData, session: Session | None, is_confirmed: bool, act: Callable[[Session, str], bool]
    ) -> tuple[Any, ...]:
        name = name_in(event)
        # The browser may be faster than Gradio, which keeps a new session only after its first answer.
        session = self._asking.get(name or "") or session
        if name is not None and (session is None or not act(session, name)):
            self._decided[name] = is_confirmed
            while len(self._decided) > MAX_DECIDED:
                self._decided.popitem(last=False)
        return self._show(session, keeps_box=True) if session else (gr.skip(),) * len(self._shown)

    def note_first_audio(self, event: gr.EventData, session: Session | None) -> Any:
        """Show when the first audio was played, which only the browser knows."""
        last = session.turns[-1] if session and session.turns else None
        if last is None or last.name != name_in(event):
            return gr.skip()
        last.first_audio = seconds_in(event)
        return _figures_of(last)

    def clear(self, session: Session | None, model: str) -> tuple[Any, ...]:
        """Begin a new conversation."""
        if session is not None:
            session.clear(self.services[model])
        return self._show(session)

    def _ask(
        self,
        session: Session | None,
        model: str,
        request: gr.Request,
        asked: TalkRequest,
        name: str | None = None,
    ) -> Iterator[Any]:
        session = session or Session(self.services[model], user_of(request))
        if name is not None:
            self._asking[name] = session
        try:
            if self._decided.get(name or "", True):
                yield from self._follow(session, self.examples.ask(session, asked, name), name)
        except RequestError as error:
            yield from self._refuse(session, error)
        finally:
            self._asking.pop(name or "", None)

    def _follow(self, session: Session, turns: Generator[ShownTurn], name: str | None) -> Iterator[Any]:
        for count, _ in enumerate(turns):
            if name is not None and name in self._decided:  # since it was asked, and before it was a turn
                if self._decided[name]:
                    session.confirm(name)
                else:
                    turns.close()  # ends the reply
                    session.withdraw(name)
            yield self._show(session, keeps_box=name is not None or count > 0)  # a next question may be in the box

    def _refuse(self, session: Session | None, error: RequestError) -> Iterator[Any]:
        """Show why a question was refused; its text stays in the box, and the conversation as it was."""
        gr.Warning(escape(str(error)), title="Please note")  # an error would cover the conversation
        yield self._show(session, keeps_box=True, is_refused=True)

    # From the session to what is seen

    def _show(self, session: Session | None, keeps_box: bool = False, is_refused: bool = False) -> tuple[Any, ...]:
        played = session.turns[-1] if session and session.turns else None
        turns = [turn for turn in session.turns if turn.is_certain] if session else []
        last = turns[-1] if turns else None
        return (
            session,
            [message for turn in turns for message in chat_messages(turn, is_last=turn is last)],
            # The browser gets what differs from before, and the button shows "thinking" until something comes.
            player_value(played) | ({"refused": uuid.uuid4().hex} if is_refused else {}),
            gr.skip() if keeps_box else {"text": "", "files": []},
            gr.DownloadButton(value=last.reply_file, interactive=True)
            if last and last.reply_file
            else gr.DownloadButton(value=None, interactive=False),
            _figures_of(last),
            (timeline(last.trace) if last else "") or NOTHING_YET,
            span_cards(last.trace) if last else [],
        )


def _figures_of(turn: ShownTurn | None) -> str:
    if turn is None:
        return figures()
    summary, is_spoken = turn.summary, turn.first_audio is not None
    return figures(
        turn.first_audio if is_spoken else turn.trace.first_audio,
        summary.real_time_factor if summary else None,
        summary.tokens_per_forward if summary and summary.num_forwards else None,
        since="you stopped speaking" if is_spoken else "the model's turn came",
    )


def _uploaded(path: str) -> AudioFile:
    """Read a file that Gradio wrote into its own folder; the user chose only its name."""
    return AudioFile(Path(path).read_bytes(), Path(path).name)
