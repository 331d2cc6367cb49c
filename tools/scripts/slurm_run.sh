#!/usr/bin/env bash
# Sourced by slurm_train.sh and slurm_test_mgpu.sh: run tools/$TOOL in GPUS processes of a cluster.
set -euo pipefail
USAGE="usage: ${0##*/} PARTITION JOB_NAME GPUS ARGS OF $TOOL ..."
TOOLS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PARTITION="${1:?$USAGE}" JOB_NAME="${2:?$USAGE}" GPUS="${3:?$USAGE}"
GPUS_PER_NODE="${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}"
PORT="$((12000 + RANDOM % 20000))"
# SRUN_ARGS is a list of words
# shellcheck disable=SC2086
exec srun -p "$PARTITION" --job-name="$JOB_NAME" --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$TOOLS/$TOOL" --launcher slurm --tcp_port "$PORT" "${@:4}"
