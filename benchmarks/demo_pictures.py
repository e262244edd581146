"""
Take the pictures of the demo that the documents and link previews show, with Chromium.

    python benchmarks/demo_pictures.py      # half a minute

Serves the demo with nano in this process, asks one of its spoken examples for each picture, and replaces
`docs/assets/demo-*.png` and `spaces_demo/http/preview.png`.
"""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from spaces_demo.app import load_service
from spaces_demo.http.server import build_app
from spaces_demo.page.page import LOOKS, build_demo

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs" / "assets"
PREVIEW = ROOT / "spaces_demo" / "http" / "preview.png"
Scheme = Literal["light", "dark"]
PICTURES: tuple[tuple[Path, str, Scheme, int, int], ...] = (  # with width and height; 0: as high as the page
    (ASSETS / "demo-light.png", "What city is the capital of Austria?", "light", 1200, 0),
    (ASSETS / "demo-dark.png", "Today is Monday, what is tomorrow?", "dark", 1200, 0),
    (ASSETS / "demo-phone.png", "How do I spell house?", "light", 390, 844),
    (PREVIEW, "Today is Monday, what is tomorrow?", "light", 1200, 630),
)


@contextmanager
def served() -> Iterator[str]:
    """Serve the demo on a free port of this machine, and give its address."""
    service = load_service(device="cpu")
    app = build_app(service, build_demo(service), **LOOKS)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("The server did not start.")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def picture(browser: Browser, url: str, question: str, colours: Scheme, width: int, height: int) -> bytes:
    """Ask, wait until the reply has been played, and take the page."""
    page = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=colours)
    page.goto(url)
    page.wait_for_selector("#voice [data-state=idle]")
    page.click(f"text={question}")
    page.wait_for_selector("#voice [data-state=speaking]", timeout=60_000)
    page.wait_for_selector("#voice [data-state=idle]", timeout=60_000)
    page.wait_for_selector("#actions button:not([disabled]) >> text=Save speech")
    page.wait_for_timeout(1000)  # Gradio's players draw their waveforms
    page.mouse.move(0, 0)
    file = page.screenshot(full_page=not height)
    page.close()
    return file


def main() -> None:
    """Take every picture."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        for path, question, colours, width, height in PICTURES:
            path.write_bytes(picture(browser, url, question, colours, width, height))
            print(path.relative_to(ROOT))
        browser.close()


if __name__ == "__main__":
    main()
