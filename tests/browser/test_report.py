"""The report, in a real Chromium: drawn, quiet, readable, reachable by keyboard."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.support.databases import Sql
from tests.support.programs import Importer
from tests.support.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CHARTS = {"growth", "speed", "timeline", "by-nat", "by-age", "missing"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MISSING = "{} is missing; Debian: apt-get install chromium chromium-driver"
MAX_BYTES = 5_000_000

CONTRAST = """
const luminance = ([r, g, b]) => {
  const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const background = element => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const texts = "h1, h2, p, dt, dd, th, td, code, figcaption, summary, svg text";
return [...document.querySelectorAll(texts)]
  .filter(element => element.textContent.trim())
  .map(element => {
    const style = getComputedStyle(element);
    const front = rgb(element.closest("svg") ? style.fill : style.color);
    const [light, dark] = [luminance(front), luminance(background(element))].sort((a, b) => b - a);
    return [(light + 0.05) / (dark + 0.05), element.textContent.slice(0, 40)];
  })
  .filter(([ratio]) => ratio < 4.5);
"""

PAGE_WIDTH = 718
"""Of A4, in CSS pixels, without the margins that Chromium leaves."""
CHART_ENDS = """
const right = element => element.getBoundingClientRect().right;
const left = document.body.getBoundingClientRect().left;
const end = element => Math.floor(right(element) - left);
return [...document.querySelectorAll(".chart")]
  .map(chart => [end(chart.querySelector("svg")), end(chart)]);
"""


def program(*names: str) -> str:
    """The first of these programs that there is; without one, the test fails."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.fail(MISSING.format(names[0]))


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = program(*BROWSERS)
    for argument in ("--headless=new", "--hide-scrollbars", "--force-prefers-reduced-motion"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(program("chromedriver")))
    # No network: what the file does not hold, it does not get.
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]})
    yield browser
    browser.quit()


@pytest.fixture
def report(importer: Importer, sql: Sql, tmp_path: Path) -> Path:
    """Of an import with rejects, one chunk of which was taken over."""
    users = json.loads(Path(importer.programs.environment["IMPORT_CACHE"]).read_bytes())["results"]
    for user in users[::100]:
        del user["name"]["first"]
    users[7]["location"]["city"] = "</script><script>throw 'injected'</script>"
    users[9]["dob"]["age"] = "<img src=x onerror=alert(1)>"
    input_ = tmp_path / "users.jsonl"
    input_.write_text("".join(json.dumps(user) + "\n" for user in users))
    result = importer.run("import", "--json", "--input", input_, timeout=170)
    assert result.status == 3, result.stderr
    sql("UPDATE chunks SET takeovers = 1 WHERE chunk = 3")
    return written(importer, tmp_path)


def written(importer: Importer, folder: Path) -> Path:
    file = folder / "report.html"
    result = importer.run("report", "--output", file, timeout=170)
    assert result.status == 0, result.stderr
    return file


def show(browser: webdriver.Chrome, file: Path, width: int = 1600, scheme: str = "light") -> None:
    """Opens the file, and returns when each of its charts is drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(file.as_uri())
    until(
        lambda: len(drawn(browser)) >= len(browser.find_elements(By.CSS_SELECTOR, ".chart")),
        "each chart is drawn",
        seconds=60,
    )


def drawn(browser: webdriver.Chrome) -> set[str]:
    """Names of the charts that show marks."""
    script = """return [...document.querySelectorAll(".chart")]
        .filter(chart => chart.querySelector("svg .mark-rect path, svg .mark-area path"))
        .map(chart => chart.id)"""
    return set(browser.execute_script(script))


def run(browser: webdriver.Chrome, script: str) -> Any:
    return browser.execute_script(script)


def tab(browser: webdriver.Chrome) -> WebElement:
    """Presses the key, and returns what has the focus now."""
    browser.switch_to.active_element.send_keys(Keys.TAB)
    return browser.switch_to.active_element


def test_every_chart_is_drawn_without_a_word_on_the_console(
    chromium: webdriver.Chrome, report: Path
) -> None:
    show(chromium, report)

    assert drawn(chromium) == CHARTS
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert "retry" in chromium.find_element(By.TAG_NAME, "main").text
    assert run(chromium, "return performance.getEntriesByType('resource').length") == 0


def test_is_readable_light_and_dark_narrow_and_wide(
    chromium: webdriver.Chrome, report: Path
) -> None:
    for width, scheme in product((400, 1600), ("light", "dark")):
        show(chromium, report, width, scheme)

        assert run(chromium, "return document.documentElement.scrollWidth") == width
        assert run(chromium, CONTRAST) == []
        for chart in chromium.find_elements(By.CSS_SELECTOR, ".chart svg"):
            assert width / 4 < chart.size["width"] <= width


def test_a_page_holds_every_chart_whole(chromium: webdriver.Chrome, report: Path) -> None:
    """Printing does not draw anew: a chart that was drawn for a wide window has to shrink."""
    show(chromium, report, width=1600)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    run(chromium, f"document.body.style.width = '{PAGE_WIDTH}px'")
    ends = run(chromium, CHART_ENDS)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})

    assert len(ends) == len(CHARTS)
    assert all(0 < drawn_end <= place_end <= PAGE_WIDTH for drawn_end, place_end in ends), ends


def test_every_chart_and_its_table_is_reached_by_keyboard(
    chromium: webdriver.Chrome, report: Path
) -> None:
    show(chromium, report)
    reached: list[WebElement] = []
    # Until it begins anew: the summaries would be closed again.
    while (focused := tab(chromium)) not in reached and focused.tag_name != "body":
        reached.append(focused)
        if focused.tag_name == "summary":
            focused.send_keys(Keys.ENTER)

    assert {f"{chart}-figure" for chart in CHARTS} <= {
        element.get_attribute("id") for element in reached
    }
    assert len(chromium.find_elements(By.CSS_SELECTOR, "details[open] table")) == len(CHARTS)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_users_open_at_once(
    chromium: webdriver.Chrome, importer: Importer, sql: Sql, tmp_path: Path
) -> None:
    """Of an import as it stands in the tables after a million users in 2,000 chunks."""
    importer.run("import", "--count", "20", timeout=170)
    sql(MANY_CHUNKS)
    sql(MANY_USERS)
    file = written(importer, tmp_path)
    show(chromium, file)
    seconds = run(chromium, "return performance.getEntriesByType('navigation')[0].duration") / 1000

    assert drawn(chromium) == CHARTS
    assert file.stat().st_size < MAX_BYTES
    print(f"{file.stat().st_size:,} bytes, open in {seconds:.2f} s")


MANY_CHUNKS = """
INSERT INTO chunks (import_id, chunk, page, position, users, block_offset, block_length, imported,
                    executor_id, started_at, loaded_at)
SELECT imports.id, n, n / 10 + 1, 20 + n * 500, 500, 0, 0, 500, 'host-' || n % 3 || '-abcdef',
       resumed_at + n * interval '0.03 s', resumed_at + (n + 3 + random()) * interval '0.03 s'
FROM imports, generate_series(1, 2000) AS n
"""
MANY_USERS = """
INSERT INTO random_users
SELECT (jsonb_populate_record(one, jsonb_build_object(
    'id', gen_random_uuid(), 'age', 20 + n % 60, 'nat', chr(65 + n % 26) || chr(65 + n % 7)))).*
FROM random_users AS one, generate_series(1, 999980) AS n
WHERE one.id = (SELECT min(id::text)::uuid FROM random_users)
"""
