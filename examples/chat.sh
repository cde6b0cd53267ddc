#!/usr/bin/env bash
# One answer, with nothing but curl.
set -euo pipefail
curl --fail --silent --show-error "${OPENAI_BASE_URL:-http://127.0.0.1:8080/v1}/chat/completions" \
  -H 'Content-Type: application/json' \
  -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \
  -d '{"messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 64}'
