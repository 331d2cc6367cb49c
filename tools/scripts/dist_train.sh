#!/usr/bin/env bash
# Train with several processes on this machine: dist_train.sh NGPUS ARGS OF train.py ...
# Without GPUs, NGPUS is the number of CPU processes. Runs from any folder; PYTHON chooses the interpreter.
set -euo pipefail
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NGPUS="${1:?usage: dist_train.sh NGPUS ARGS OF train.py ...}"
exec "${PYTHON:-python}" -m pcdet_distill.engine.distributed.launch "$NGPUS" "$TOOLS/train.py" --launcher pytorch "${@:2}"
