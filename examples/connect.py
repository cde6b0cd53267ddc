"""Where the examples find their server: OPENAI_BASE_URL, or port 8080 of this machine."""

from __future__ import annotations

import os

URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
KEY = os.environ.get("OPENAI_API_KEY", "none")
