"""What mkdocs calls while it builds the site: the README and others become pages, links between
files of the repository become links between pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # mkdocs loads this file by its path
    sys.path.insert(0, str(ROOT))

from tools.site.pages import DOCS, OUTSIDE, whole_nav, with_links  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, with the pages that there are."""
    docs = Path(config.docs_dir)
    pages = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    config.nav = whole_nav(config.nav or [], [*pages, *OUTSIDE.values()])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside of docs/."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """A page with links that lead to pages."""
    name = page.file.src_uri
    source = next((path for path, made in OUTSIDE.items() if made == name), f"{DOCS}/{name}")
    return with_links(markdown, source, name)
