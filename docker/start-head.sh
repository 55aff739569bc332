#!/usr/bin/env bash
# Starts the head of a cluster on this machine, with a token, and lasts as long as it does.
#   docker/start-head.sh [OPTIONS OF ray start]
# RIB_NODE_IP: the address that the workers reach this machine by, where it has several.
# RIB_PORT: where they join it; 6379 if not set.
set -euo pipefail
exec rib cluster head --port "${RIB_PORT:-6379}" "$@"
