#!/usr/bin/env bash
# Build the documentation into site/ (open site/index.html; no network is needed). Arguments go to mkdocs build.
set -euo pipefail
EXTRAS=docs
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
cd "$ROOT"
export NO_MKDOCS_2_WARNING=1  # mkdocs-material advertises there
exec "$PYTHON" -m mkdocs build --strict "$@"
