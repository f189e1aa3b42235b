"""What the documents say of the code is what the code says."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_drawing_of_a_dynos_life_is_current() -> None:
    script = runpy.run_path(str(ROOT / "scripts/draw_states.py"))
    document = script["DOCUMENT"].read_text()

    assert document == script["redrawn"](document)


def test_every_setting_is_in_the_documents_with_its_default() -> None:
    code = (ROOT / "src/deodar/settings.py").read_text()
    text = (ROOT / "docs/config.md").read_text()

    assert set(re.findall(r"\bDEODAR_[A-Z_]+\b", code)) == set(
        re.findall(r"^\| `(DEODAR_[A-Z_]+)`", text, re.MULTILINE)
    )


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    broken = [
        (document.name, target)
        for document in documents
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]

    assert broken == []
