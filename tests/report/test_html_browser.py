"""The HTML report in a real headless Chromium: silent, self-sufficient, legible in both themes, usable by keyboard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pages import hostile, ordinary

from sweep.report import comparison
from sweep.report.html import page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

# WCAG 2.2, 1.4.3 and 1.4.11: relative luminance, contrast of every text with what is painted behind it.
CONTRAST = """() => {
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const lum = c => [.2126, .7152, .0722].reduce((sum, part, i) => sum + part * linear(c[i] / 255), 0);
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (top, under) => under.map((v, i) => v + (top[i] - v) * top[3] / 255);
  const behind = el => {
    const chain = [];
    for (let e = el; e; e = e.parentElement) chain.unshift(getComputedStyle(e).backgroundColor);
    return chain.reduce((under, c) => { const t = rgba(c); return t[3] ? over(t, under) : under; }, [255, 255, 255]);
  };
  const poor = []; let texts = 0, marks = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const el = walk.currentNode.parentElement, style = getComputedStyle(el);
    if (!walk.currentNode.textContent.trim() || !el.checkVisibility()) continue;
    if (el.matches('script, style, title, .seen')) continue;
    const svg = el instanceof SVGElement;
    const color = rgba(svg ? style.fill : style.color), found = ratio(over(color, behind(el)), behind(el));
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    texts++;
    if (found < (large ? 3 : 4.5)) poor.push([found.toFixed(2), el.textContent.slice(0, 40)]);
  }
  for (const el of document.querySelectorAll('.picture path, .picture use')) {
    const kind = /\\b([fs])[0-4]\\b/.exec(el.getAttribute('class') || '');
    if (!kind || !el.checkVisibility()) continue;
    const style = getComputedStyle(el), fills = kind[1] === 'f';
    const color = rgba(fills ? style.fill : style.stroke);
    const opacity = parseFloat(fills ? style.fillOpacity : style.strokeOpacity) * parseFloat(style.opacity);
    if (opacity < .5) continue;  // a band or a single run behind its mean
    color[3] *= opacity;
    const found = ratio(over(color, behind(el)), behind(el));
    marks++;
    if (found < 3) poor.push([found.toFixed(2), el.outerHTML.slice(0, 60)]);
  }
  return {poor, texts, marks};
}"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as found:
        made = found.chromium.launch(executable_path=BROWSER, args=[*FLAGS])
        yield made
        made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    plain = ordinary(folder / "ordinary")
    (folder / "ordinary.html").write_text(page(plain, comparison=comparison.compare(plain)), encoding="utf-8")
    (folder / "hostile.html").write_text(page(hostile(folder / "hostile")), encoding="utf-8")
    return folder


class Opened:
    """A page with everything that it did beside being read."""

    def __init__(self, browser, path: Path, *, scheme: str = "light", width: int = 1280) -> None:
        self.context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
        self.page = self.context.new_page()
        self.noise: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.noise.append(message.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.noise.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_it_says_nothing_on_the_console_and_asks_for_nothing(browser, pages, name):
    with Opened(browser, pages / f"{name}.html") as opened:
        opened.page.wait_for_timeout(200)
        assert opened.noise == []
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
        assert opened.page.evaluate("document.querySelectorAll('script, img, iframe, object, embed').length") == 1
        assert opened.page.evaluate("getComputedStyle(document.querySelector('h1')).display") != "none"


def test_the_policy_is_in_force(browser, pages, tmp_path):
    text = (pages / "ordinary.html").read_text(encoding="utf-8")
    evil = tmp_path / "evil.html"
    evil.write_text(
        text.replace("</main>", "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x'></main>")
    )
    with Opened(browser, evil) as opened:
        assert opened.page.title() != "owned"
        assert sum("Content Security Policy" in line for line in opened.noise) >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_text_and_marks_have_the_contrast_of_wcag_aa(browser, pages, name, scheme):
    with Opened(browser, pages / f"{name}.html", scheme=scheme) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        found = opened.page.evaluate(CONTRAST)
        assert found["texts"] > 150
        assert found["marks"] > 20
        assert found["poor"] == []


def test_the_measure_of_contrast_finds_what_is_too_faint(browser, pages):
    with Opened(browser, pages / "ordinary.html") as opened:
        opened.page.evaluate("document.querySelector('h2').style.color = '#9a9a9a'")
        opened.page.evaluate("document.querySelector('.on-wide use.f0').style.fill = '#e0e0e0'")
        assert len(opened.page.evaluate(CONTRAST)["poor"]) == 2


def test_the_themes_differ(browser, pages):
    shades = []
    for scheme in ("light", "dark"):
        with Opened(browser, pages / "ordinary.html", scheme=scheme) as opened:
            shades.append(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(shades)) == 2


@pytest.mark.parametrize("name", ["ordinary", "hostile"])
def test_a_phone_scrolls_down_and_never_sideways(browser, pages, name):
    with Opened(browser, pages / f"{name}.html", width=390) as opened:
        opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
        small = opened.page.evaluate(
            "[...document.querySelectorAll('svg text, p, td, figcaption')].filter(e => e.checkVisibility())"
            ".map(e => { const m = e.getScreenCTM ? e.getScreenCTM() : {a: 1, b: 0};"
            " return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(m.a, m.b); })"
            ".filter(size => size < 10.5)"
        )
        assert small == []


def test_no_table_of_a_phone_scrolls_sideways_and_each_number_says_what_it_is(browser, pages):
    wide = (
        "[...document.querySelectorAll('table.stack')].filter(e => e.checkVisibility())"
        ".map(e => [e.parentElement.scrollWidth - e.parentElement.clientWidth,"
        " getComputedStyle(e.querySelector('td[data-of]'), '::before').content])"
    )
    for name, tables in (("ordinary", 3), ("hostile", 1)):  # at the least
        with Opened(browser, pages / f"{name}.html", width=360) as opened:
            opened.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            found = opened.page.evaluate(wide)
            assert len(found) >= tables
            assert all(over <= 0 for over, _ in found), found
            assert all(label != "none" for _, label in found)
    with Opened(browser, pages / "ordinary.html") as opened:
        labels = [label for _, label in opened.page.evaluate(wide)]
        assert set(labels) == {"none"}


def test_every_link_button_and_scrolled_part_is_reached_by_the_tab_key_and_seen(browser, pages):
    with Opened(browser, pages / "ordinary.html") as opened:
        wanted = opened.page.evaluate(
            "[...document.querySelectorAll('a, button, summary, [tabindex=\"0\"]')]"
            ".filter(e => e.checkVisibility()).length"
        )
        reached = set()
        for _ in range(wanted + 2):
            opened.page.keyboard.press("Tab")
            found = opened.page.evaluate(
                "() => { const e = document.activeElement; return e === document.body ? null : "
                "[[...document.querySelectorAll('*')].indexOf(e), getComputedStyle(e).outlineStyle]; }"
            )
            if found:
                reached.add(found[0])
                assert found[1] != "none"
        assert len(reached) == wanted


def test_the_keyboard_copies_a_command_and_is_told_so(browser, pages):
    with Opened(browser, pages / "ordinary.html") as opened:
        opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.page.locator("button[data-copies='command-1']").focus()
        opened.page.keyboard.press("Enter")
        opened.page.locator("#said", has_text="Copied").wait_for(state="attached")
        copied = opened.page.evaluate("navigator.clipboard.readText()")
        assert copied == opened.page.locator("#command-1").text_content()
        assert copied.startswith("sweep run ")


def test_structure_for_a_screen_reader(browser, pages):
    with Opened(browser, pages / "ordinary.html") as opened:
        found = opened.page.evaluate(
            """() => ({
              lang: document.documentElement.lang, h1: document.querySelectorAll('h1').length,
              unnamed: document.querySelectorAll('svg[role=img]:not([aria-label]), svg[aria-label=""]').length,
              nameless: [...document.querySelectorAll('button, a')].filter(e => !e.textContent.trim()).length,
              ids: [...document.querySelectorAll('[id]')].map(e => e.id),
              targets: [...document.querySelectorAll('a[href^="#"]')].filter(
                e => !document.getElementById(e.getAttribute('href').slice(1))).length,
              headless: [...document.querySelectorAll('th')].filter(e => !e.scope).length,
            })"""
        )
        assert found["lang"] == "en"
        assert found["h1"] == 1
        assert len(set(found["ids"])) == len(found["ids"])
        assert found["unnamed"] == found["nameless"] == found["targets"] == found["headless"] == 0
