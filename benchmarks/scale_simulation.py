"""How long a billion vectors take on many machines: a simulation from rates measured on one core.

``python benchmarks/scale_simulation.py --measure`` writes ``results/scale_rates.json``, with
``--qdrant URI`` also the rate of a real server. Without it, ``results/scale.md`` and ``scale.png``
are written from that file. What cannot be measured on one machine is an option, and an assumption.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from scale_model import Cluster, Outcome, Rates, simulate

RESULTS = Path(__file__).parent / "results"
RATES = RESULTS / "scale_rates.json"
NODES = (2, 4, 8, 16, 32, 64)
BATCHES = (256, 1024, 4096)
FAILURES = (0.0, 1.0, 24.0, 240.0)


def table(rows: list[tuple[Any, ...]], *names: str) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def row(cluster: Cluster, found: Outcome, asked: argparse.Namespace) -> tuple[Any, ...]:
    price = cluster.nodes * cluster.cores * asked.core_price + asked.qdrant_nodes * asked.node_price
    return (
        cluster.nodes, f"{cluster.batch:,}", f"{cluster.failures:g}", f"{cluster.ingest:,.0f}",
        f"{found.hours:.1f}", f"{asked.points / found.hours / 3600:,.0f}", f"{found.lost:.2%}",
        f"{found.cpu:.0%}", f"{found.ingest:.0%}", f"{found.network:.0%}", found.bottleneck,
        f"{price * found.hours:,.0f}",
    )  # fmt: skip


HEADS = (
    "nodes", "batch", "failures a node and day", "Qdrant takes, points/s", "hours", "vectors/s",
    "work lost", "cores in use", "Qdrant in use", "network in use", "bottleneck", "price",
)  # fmt: skip


def varied(base: Cluster) -> Iterator[tuple[str, list[Cluster]]]:
    """What is varied, the rest being as in ``base``."""
    yield "Nodes", [replace(base, nodes=n) for n in NODES]
    few = replace(base, nodes=base.nodes // 2)  # where the workers matter
    yield "Batch size", [replace(few, batch=b) for b in BATCHES]
    yield "Failures", [replace(few, failures=f) for f in FAILURES]
    yield "What Qdrant takes", [replace(base, ingest=base.ingest * f) for f in (0.25, 0.5, 1, 2, 4)]


def plot(asked: argparse.Namespace, rates: Rates, base: Cluster) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for factor in (0.5, 1, 2):
        ingest = base.ingest * factor
        hours = [
            simulate(asked.points, rates, replace(base, nodes=n, ingest=ingest)).hours
            for n in NODES
        ]
        axes[0].plot(NODES, hours, "o-", label=f"Qdrant takes {ingest:,.0f} points/s")
    for failures in FAILURES:
        hours = [
            simulate(asked.points, rates, replace(base, nodes=n, failures=failures)).hours
            for n in NODES
        ]
        axes[1].plot(NODES, hours, "o-", label=f"{failures:g} failures a node and day")
    for axis in axes:
        axis.set(xscale="log", yscale="log", xlabel=f"worker nodes of {base.cores} cores")
        axis.set_xticks(NODES, [str(n) for n in NODES])
        axis.minorticks_off()
        axis.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=9)
    axes[0].set_ylabel("hours")
    figure.suptitle(f"{asked.points:,} vectors, {rates.translator}, batches of {base.batch:,}")
    figure.tight_layout()
    figure.savefig(RESULTS / "scale.png", dpi=110)


def report(asked: argparse.Namespace) -> str:
    """Simulate, and write the results."""
    measured = json.loads(asked.rates.read_text())
    rates = Rates(measured, asked.translator)
    base = Cluster(
        nodes=asked.nodes, cores=asked.cores, batch=asked.batch,
        ingest=asked.ingest * asked.qdrant_nodes, gigabits=asked.gigabits, failures=1.0,
    )  # fmt: skip
    old, new = measured["dimensions"]
    batch = base.batch
    steps = [
        ("read from Qdrant and decoded", rates.request("scroll_request", batch)),
        *[(f"translated ({name})", took) for name, took in measured["translate"].items()],
        ("encoded and sent to Qdrant", rates.request("upsert_request", batch)),
        ("its id alone read from Qdrant", rates.request("ids_request", batch)),
        ("written to a part file", measured["part"]["write"]),
        ("read from a part file", measured["part"]["read"]),
    ]
    terabytes = asked.points / 1e12
    text = (
        f"# {asked.points:,} vectors of {old} dimensions to {new}, simulated\n\n"
        f"`python benchmarks/scale_simulation.py`, from rates measured by `--measure`: "
        f"{measured['made']}.\n\n"
        f"## Measured: one core, batches of {batch:,}\n\n"
        + table(
            [(name, f"{took * 1e6:,.0f}", f"{1 / took:,.0f}") for name, took in steps],
            "a vector is", "µs", "vectors/s",
        )
        + f"\nBytes a vector with a payload of 320 characters: {measured['read_bytes']:,.0f} read, "
        f"{measured['write_bytes']:,.0f} written. A Ray task that does nothing: "
        f"{measured['ray']['task'] * 1e3:.1f} ms; a local cluster starts in "
        f"{measured['ray']['start']:.0f} s.\n\n"
        f"## Assumed\n\n"
        f"{asked.qdrant_nodes} Qdrant nodes that take {asked.ingest:,.0f} points a second each "
        f"({measured_server(measured)}); worker nodes of {base.cores} cores with "
        f"{base.gigabits:g} Gbit/s, {base.failures:g} failures a node and day and "
        f"{base.recovery:.0f} s to come back; a price of {asked.core_price:g} "
        f"a core and hour and {asked.node_price:g} a Qdrant node and hour. "
        f"Unless varied: {base.nodes} nodes, {rates.translator}.\n\n"
        f"## Computed\n\n"
        f"Core hours: {asked.points * rates.core_seconds(batch) / 3600:,.0f}. Over the network: "
        f"{terabytes * measured['read_bytes']:.1f} TB read, "
        f"{terabytes * measured['write_bytes']:.1f} TB written, again for each further replica. "
        f"Vectors on Qdrant's disks: {4 * new * terabytes:.1f} TB a replica. "
        f"The driver reads all ids at the end, to verify them: "
        f"{asked.points * rates.request('ids_request', batch) / 3600:.1f} hours, not in those "
        f"below.\n"
    )  # fmt: skip
    for what, clusters in varied(base):
        rows = [row(c, simulate(asked.points, rates, c), asked) for c in clusters]
        text += f"\n## {what}\n\n" + table(rows, *HEADS)
    plot(asked, rates, base)
    return text


def measured_server(measured: dict[str, Any]) -> str:
    found = measured["server"]
    if found is None:
        return "not measured: no server was at hand"
    return f"{found['points_per_second']:,.0f} in all were measured of the server named"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--qdrant", help="URI of a collection to make on a real server and remove")
    parser.add_argument("--processes", type=int, default=4, help="that write to it")
    parser.add_argument("--server-points", type=int, default=200_000)
    parser.add_argument("--rates", type=Path, default=RATES)
    parser.add_argument("--points", type=int, default=1_000_000_000)
    parser.add_argument("--translator", default="kernel-ridge", choices=["ridge", "kernel-ridge"])
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--cores", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--qdrant-nodes", type=int, default=12)
    parser.add_argument("--ingest", type=float, default=3000.0, help="points/s a Qdrant node")
    parser.add_argument("--gigabits", type=float, default=10.0)
    parser.add_argument("--core-price", type=float, default=0.04)
    parser.add_argument("--node-price", type=float, default=0.8)
    asked = parser.parse_args()
    if asked.measure:
        from scale_rates import measure

        found = measure(asked.qdrant, asked.processes, asked.server_points)
        asked.rates.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{asked.rates}: {found['made']}")
        return
    text = report(asked)
    (RESULTS / "scale.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
