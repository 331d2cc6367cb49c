#!/usr/bin/env bash
# Evaluate with several processes on this machine: dist_test.sh NGPUS ARGS OF test.py ...
# Without GPUs, NGPUS is the number of CPU processes. Runs from any folder; PYTHON chooses the interpreter.
set -euo pipefail
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NGPUS="${1:?usage: dist_test.sh NGPUS ARGS OF test.py ...}"
exec "${PYTHON:-python}" -m pcdet_distill.engine.distributed.launch "$NGPUS" "$TOOLS/test.py" --launcher pytorch "${@:2}"
