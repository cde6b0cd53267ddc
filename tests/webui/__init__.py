"""The page at / in headless Chromium: `make test-page`, no part of `make test`."""
