#!/usr/bin/env bash
# Sourced by dist_train.sh and dist_test.sh: run tools/$TOOL in NGPUS processes on this machine.
set -euo pipefail
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NGPUS="${1:?usage: ${0##*/} NGPUS ARGS OF $TOOL ...}"
exec "${PYTHON:-python}" -m pcdet_distill.engine.distributed.launch "$NGPUS" \
    "$TOOLS/$TOOL" --launcher pytorch "${@:2}"
