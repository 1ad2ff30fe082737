"""No view of the page keeps anybody out: axe-core finds nothing, and the browser neither."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.page_views import SCENES, VIEWS, Scene, View, looked_at

pytestmark = pytest.mark.slow

WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")

LISTEN = """
window.faults = [];
addEventListener("securitypolicyviolation", (event) => {
  window.faults.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""
RUN_AXE = """
axe.run(document, {preload: false, resultTypes: ["violations"]}).then(({violations}) =>
  violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`)))
"""


@pytest.fixture(scope="module")
def scenes(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path
) -> Generator[Callable[[str], Scene]]:
    """Gives a site by its name; each is made when it is first asked for."""
    made: dict[str, Scene] = {}
    with ExitStack() as stack:

        def give(name: str) -> Scene:
            if name not in made:
                root = tmp_path_factory.mktemp(name) / "site"
                made[name] = stack.enter_context(SCENES[name](root, models_dir))
            return made[name]

        yield give


@pytest.fixture(scope="module")
def axe(node_module: Callable[[str], Path]) -> str:
    return (node_module("AXE") / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def listening(browser: Any) -> Any:
    browser.send("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
    return browser


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_nobody_is_kept_out(
    listening: Any, scenes: Callable[[str], Scene], axe: str, view: View, quiet: None
) -> None:
    scene = scenes(view.scene)
    listening.complaints.clear()
    faults: list[str] = []
    with looked_at(scene, view):
        for width in WIDTHS:
            listening.show_as(width, 900)
            scene.see(listening, view)
            listening.run(axe)
            for scheme in SCHEMES:
                listening.show_as(width, 900, scheme)
                found = listening.run(RUN_AXE)
                faults += [f"{width} {scheme}: {each}" for each in found]
            faults += listening.run("window.faults")
            if listening.run("document.documentElement.scrollWidth > innerWidth"):
                faults.append(f"{width}: is wider than the screen")
        listening.visit("about:blank")  # which ends the stream of the queue
    expected = f"status of {view.status}"
    faults += [text for text in listening.complaints if view.status == 200 or expected not in text]
    assert faults == []
