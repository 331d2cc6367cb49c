#!/usr/bin/env bash
# A SLURM job that goes on by itself: sbatch [SBATCH FLAGS] tools/scripts/slurm_batch.sh ARGS OF train.py ...
# Two minutes before its end SLURM sends SIGUSR1. The training then writes a checkpoint and ends with code 75, and
# the job puts itself back into the queue. After a preemption SLURM requeues it. Either way it goes on from there.
#SBATCH --job-name=pcdet_distill
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=5
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
set -uo pipefail
STOPPED=75
TOOLS="${PCDET_DISTILL_TOOLS:-$PWD/tools}" # sbatch copies this script elsewhere: submit it from the checkout
PORT="$((12000 + SLURM_JOB_ID % 20000))"   # the same in every task of the job

srun --kill-on-bad-exit=0 "${PYTHON:-python}" -u "$TOOLS/train.py" --launcher slurm --tcp_port "$PORT" "$@"
CODE=$?
if [ "$CODE" = "$STOPPED" ]; then
    echo "job $SLURM_JOB_ID goes back into the queue"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"
