"""Clusters: `rib cluster head`, `rib cluster worker` and `rib cluster token`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from orchestrator.cli.printing import err, tell
from workers.errors import UserError

app = typer.Typer(help="Start the nodes of a Ray cluster, safely.", no_args_is_help=True)

PASSING_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""What a command does not know goes to `ray start`."""

NodeIpOption = Annotated[
    str | None,
    typer.Option(
        "--node-ip", envvar="RIB_NODE_IP", help="The address that others reach this machine by."
    ),
]
OpenOption = Annotated[
    bool,
    typer.Option(
        "--allow-open-cluster", help="Ask for no token: who reaches it can run programs as you."
    ),
]
BlockOption = Annotated[
    bool, typer.Option("--block/--no-block", help="Last as long as the node does.")
]


@app.command(context_settings=PASSING_ON)
def head(
    context: typer.Context,
    node_ip: NodeIpOption = None,
    port: Annotated[int, typer.Option("--port", help="That workers join at.")] = 6379,
    dashboard_host: Annotated[
        str, typer.Option("--dashboard-host", help="Where the dashboard and its jobs listen.")
    ] = "127.0.0.1",
    dashboard_port: Annotated[int, typer.Option("--dashboard-port")] = 8265,
    allow_open_cluster: OpenOption = False,
    block: BlockOption = True,
) -> None:
    """Start the head of a cluster. Further options go to `ray start`, such as --num-gpus=4."""
    from orchestrator.cluster.start import Node, become, has_jobs, prepare

    node = Node(
        node_ip=node_ip,
        port=port,
        dashboard_host=dashboard_host,
        dashboard_port=dashboard_port,
        blocks=block,
        options=tuple(context.args),
    )
    command = prepare(node, os.environ, allow_open_cluster, tell)
    if not has_jobs():
        tell("this head takes no jobs: rib submit needs rib-orchestrator[cluster] on it")
    become(command, os.environ)


@app.command(context_settings=PASSING_ON)
def worker(
    context: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="HEAD:PORT", envvar="RIB_HEAD", help="The head to join.")
    ],
    node_ip: NodeIpOption = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for the head.")
    ] = 300.0,
    allow_open_cluster: OpenOption = False,
    block: BlockOption = True,
) -> None:
    """Join a cluster. Further options go to `ray start`, such as --labels=zone=a."""
    from orchestrator.cluster.start import Node, become, prepare, wait_for_head

    node = Node(address=address, node_ip=node_ip, blocks=block, options=tuple(context.args))
    wait_for_head(address, wait, tell)
    command = prepare(node, os.environ, allow_open_cluster, tell)
    become(command, os.environ)


@app.command()
def token() -> None:
    """Make this machine's token if it has none, and say where it is, not what it is."""
    from orchestrator.cluster import tokens

    tokens.ask_for_token(os.environ)
    tokens.make_token(os.environ, tell)
    given = os.environ.get(tokens.TOKEN)
    print(f"in {tokens.TOKEN}" if given else tokens.token_file(os.environ))


def show_machines(error: UserError) -> None:
    """Print the machines of a cluster side by side, if that is what is wrong."""
    from orchestrator.cluster.comparison import NodesDifferError
    from orchestrator.report.machines import machines_table

    if isinstance(error, NodesDifferError) and error.comparison is not None:
        err.print(machines_table(error.comparison))
