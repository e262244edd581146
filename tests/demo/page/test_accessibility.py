"""The page as people see it who need contrast, a screen reader, a large target or a small screen: judged by axe."""

import pytest
from browser import ask, faint_texts, open_page, wait_until

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("silero_vad", reason="the demo extra is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the dev extra is not installed")

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
NOT_OURS = [["#chat .download-link"]]  # Gradio puts a button into this link, which axe takes for a small target
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def faults(page, seconds=10):
    """
    What axe finds, and the texts that axe cannot judge: placeholders, and those in pictures. A part that Gradio has
    not filled yet has no name: only what is still there after some seconds is a fault.
    """
    for _ in range(seconds):
        if not (found := _faults_now(page)):
            break
        page.wait_for_timeout(1000)
    return found


def _faults_now(page):
    options = {"runOnly": RULES, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, context={"exclude": NOT_OURS}, options=options).response["violations"]
    return [f"{fault['id']}: {node['html']}" for fault in found for node in fault["nodes"]] + faint_texts(page)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_everyone_can_read_and_use_the_page(browser, url, color_scheme):
    page = open_page(browser, url, color_scheme=color_scheme)
    page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")  # a moving colour is no colour yet
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert faults(page) == []
    ask(page, "What is two plus three?")
    wait_until(page, "speaking")
    wait_until(page, "idle")
    page.wait_for_selector("#actions button:not([disabled]) >> text=Save speech")
    page.click("#controls button")
    page.click(".about button")
    page.wait_for_selector(".about pre >> visible=true")
    for viewport in (PHONE, DESKTOP):
        page.set_viewport_size(viewport)
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.errors == []
    page.context.close()
