#!/usr/bin/env bash
# Joins this machine to a cluster and lasts as long as it is part of it. Waits for the head.
#   docker/start-worker.sh [OPTIONS OF ray start]
# RIB_HEAD: HOST:PORT of the head.
# RIB_NODE_IP: the address that the others reach this machine by, where it has several.
set -euo pipefail
exec rib cluster worker "${RIB_HEAD:?set RIB_HEAD to HOST:PORT of the head}" "$@"
