#!/usr/bin/env bash
# Sourced by dist_train.sh and dist_test.sh: run tools/$TOOL in NGPUS processes on this machine.
set -euo pipefail
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NGPUS="${1:?usage: ${0##*/} NGPUS ARGS OF $TOOL ...}"
PYTHON="${PYTHON:-python}"
if ! "$PYTHON" -c 'import sys
from importlib.util import find_spec
sys.exit(None in map(find_spec, ["pcdet_distill", "torch"]))' >/dev/null 2>&1; then
    echo "error: '$PYTHON' has no pcdet_distill: install it, activate its environment (source .venv/bin/activate), or set PYTHON" >&2
    exit 2
fi
exec "$PYTHON" -m pcdet_distill.engine.distributed.launch "$NGPUS" \
    "$TOOLS/$TOOL" --launcher pytorch "${@:2}"
