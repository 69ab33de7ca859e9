"""The site of the pages: it is built without a warning, has all of them, and fetches nothing when it is read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

CONFIGURATION = ROOT / "docs" / "site"
OPTIONS = ("--fail-on-warning", "--keep-going", "--quiet")
FETCHED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
IMPORTED = re.compile(r"""(?:url\(|@import\s)\s*["']?(?:https?:)?//""")
ONE_PAGE = "# A page\n\n## A section\n"
INDEX = "# Index\n\n## Tutorial\n\n| page | shows |\n|---|---|\n| [one.md](one.md) | one |\n"
DECISIONS = "# Decisions\n\n| page | decision |\n|---|---|\n| [0001-one.md](0001-one.md) | one |\n"


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "sphinx", "--builder", "html", "--conf-dir", str(CONFIGURATION),
        "--doctree-dir", str(target.with_name("doctrees")), *OPTIONS, str(source), str(target),
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT, target)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return target


def test_every_page_is_in_it_and_in_its_navigation(site: Path) -> None:
    pages = {path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in pages if not (site / path).exists()} == set()
    start = (site / "docs" / "README.html").read_text()
    listed = set(re.findall(r'<li class="toctree-l1[^>]*><a class="[^"]*reference internal" href="([^"#]+)"', start))
    assert {str(path.relative_to("docs")) for path in pages if path.parent.name != "decisions"} - listed == {
        "README.html"
    }
    assert 'url=docs/README.html"' in (site / "index.html").read_text()


def test_a_link_to_a_file_of_the_repository_leads_to_its_copy(site: Path) -> None:
    shop = (site / "docs" / "shop.html").read_text()
    (copy,) = set(re.findall(r'href="\.\./(_downloads/[^"]+/place_order\.py)"', shop))
    assert (site / copy).read_text() == (ROOT / "examples" / "place_order.py").read_text()
    assert 'href="../README.html"' in shop


def test_nothing_is_fetched_when_it_is_read(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert [str(page) for page in pages if FETCHED.search(page.read_text()) or IMPORTED.search(page.read_text())] == []


@pytest.mark.parametrize(
    ("page", "text", "complaint"),
    [
        ("docs/one.md", ONE_PAGE, ""),
        ("docs/one.md", f"{ONE_PAGE}\n[there](two.md)\n", "one.md:5: WARNING: 'myst' cross-reference target not found"),
        ("docs/one.md", f"{ONE_PAGE}\n[there](README.md#nowhere)\n", "one.md:5: WARNING: local id not found"),
        ("docs/one.md", f"{ONE_PAGE}\n[there](../nothing.py)\n", "one.md:5: WARNING: 'myst' cross-reference target"),
        ("docs/two.md", ONE_PAGE, "two.md: WARNING: document isn't included in any toctree"),
        (
            "docs/README.md",
            f"{INDEX}| [two.md](two.md) | two |\n",
            "toctree contains reference to nonexisting document",
        ),
    ],
    ids=["nothing is wrong", "no page", "no anchor", "no file", "not in the index", "in the index alone"],
)
def test_what_leads_nowhere_fails_it(tmp_path: Path, page: str, text: str, complaint: str) -> None:
    pages = {
        "docs/README.md": INDEX, "docs/one.md": ONE_PAGE, "docs/style.md": ONE_PAGE,
        "docs/decisions/README.md": DECISIONS, "docs/decisions/0001-one.md": ONE_PAGE, "README.md": ONE_PAGE,
        "CHANGELOG.md": ONE_PAGE, "CONTRIBUTING.md": ONE_PAGE, "tests/README.md": ONE_PAGE,
    }  # fmt: skip
    pages["docs/README.md"] += "\n| [decisions/README.md](decisions/README.md) | all |\n"
    for place, content in {**pages, page: text}.items():
        (tmp_path / "source" / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / place).write_text(content)
    done = build(tmp_path / "source", tmp_path / "html")
    assert complaint in done.stderr
    assert (done.returncode == 0) == (complaint == ""), done.stderr


def test_make_site_builds_it_in_the_same_way() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "site"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    words = shown.stdout.replace("\\\n", " ").split()
    start = words.index("sphinx")
    assert words[start + 1 : words.index(".", start)] == [
        "--builder", "html", "--conf-dir", "docs/site", "--doctree-dir", "build/doctrees", *OPTIONS
    ]  # fmt: skip
    assert "/build/" in (ROOT / ".gitignore").read_text().splitlines()
