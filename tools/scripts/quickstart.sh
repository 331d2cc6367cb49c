#!/usr/bin/env bash
# Simulate LiDAR scenes, train a teacher, a student, and that student from its teacher; compare them. From any
# folder; run it again after an interruption and it goes on. --fast: a smoke run of about two minutes. --help: the other options.
set -euo pipefail
EXTRAS=viz
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec "$PYTHON" "$ROOT/tools/quickstart.py" "$@"
