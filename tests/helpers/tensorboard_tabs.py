"""TensorBoard in a browser, for its tests and for make screenshots."""

import re
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

from chromium import wait_until

# all visible elements, including those in shadow roots and frames
SEEN = """
const seen = [];
(function walk(root) {
  for (const element of root.querySelectorAll('*')) {
    if (element.getClientRects().length) seen.push(element);
    if (element.shadowRoot) walk(element.shadowRoot);
    if (element.tagName === 'IFRAME' && element.contentDocument) walk(element.contentDocument);
  }
})(document);
const within = (element, host) => {
  while (element && !(element.matches && element.matches(host)))
    element = element.parentNode || element.host;
  return Boolean(element);
};
const lines = host => seen.filter(
  e => e.matches('path') && (e.getAttribute('d') || '').length > 40 && within(e, host));
const texts = seen.map(
  e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data).join('').trim());
"""
VAL = "['val_acc', 'val_f1', 'val_loss', 'val_precision', 'val_recall']"
GRAPH = r"['input', 'Classifier', 'output', '1\u00d71\u00d728\u00d728']"
# tab -> what is visible once it shows its content
TABS = {
    "timeseries": f"{VAL}.every(t => texts.includes(t))"
    " && seen.filter(e => e.matches('line-chart canvas')).length === 5",
    "scalars": f"{VAL}.every(t => texts.includes(t)) && lines('vz-line-chart2').length >= 5",
    "images": "seen.filter(e => e.matches('img') && e.naturalWidth === 600).length === 3",
    "graphs": f"{GRAPH}.every(t => texts.includes(t))",
    "distributions": "lines('vz-distribution-chart').length >= 6 * 3",
    "histograms": "lines('vz-histogram-timeseries').length >= 6 * 10",
    "text": "seen.some(e => e.matches('pre') && e.textContent.includes('[['))",
    "pr_curves": "lines('vz-line-chart2').length >= 10",
    "projector": "texts[texts.indexOf('Points:') + 1] === '150'"
    " && texts.some(t => t.startsWith('Total variance described'))",
    "hparams": "['hp/val_acc', 'hp/test_acc'].every(t => texts.includes(t))",
}


@contextmanager
def tensorboard(folder, env=None):
    """Start a TensorBoard on a folder; its port and process id are known once it listens."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder.name, "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, cwd=folder.parent, env=env, **pipes)
    lines = iter(process.stdout.readline, "")
    port = next(filter(None, (re.search(r"http://localhost:(\d+)/", line) for line in lines)))[1]
    yield SimpleNamespace(port=int(port), pid=process.pid)
    process.terminate()
    process.wait()


def open_tab(browser, server, tab):
    """Tell whether the content of the tab appears; scalars are filtered to validation."""
    browser.get("about:blank")  # a new hash alone would not load the page again
    page = {"timeseries": "?tagFilter=%5Eval_#timeseries", "scalars": "#scalars&tagFilter=%5Eval_"}
    browser.get(f"http://localhost:{server.port}/{page.get(tab, '#' + tab)}")
    return wait_until(lambda: browser.execute_script(f"{SEEN} return {TABS[tab]}"))
