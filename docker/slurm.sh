#!/usr/bin/env bash
# Runs a grid on the nodes of a Slurm allocation. From the top of the repository:
#   sbatch --nodes=4 --gpus-per-node=8 docker/slurm.sh grids/paper.yaml --store /shared/stores/paper
# Submitting it again goes on where it stopped, after a time limit, too.
#SBATCH --job-name=rib
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --output=rib-%j.log
set -euo pipefail
grid="${1:?which grid?}"
shift

# One token for all nodes, in this user's home, readable by nobody else.
rib cluster token > /dev/null
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT="${RIB_WAIT:-300}"

head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head --lines=1)"
# A port of its own, should two jobs share a node.
port="$((20000 + SLURM_JOB_ID % 10000))"
options=(--include-dashboard=false)
if [[ -n "${SLURM_GPUS_ON_NODE:-}" ]]; then
  options+=("--num-gpus=$SLURM_GPUS_ON_NODE")
fi
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \
  ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" "${options[@]}" \
  -- rib run "$grid" --address auto "$@"
