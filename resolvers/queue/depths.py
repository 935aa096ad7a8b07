"""How deep the queues are, for whoever watches: a bounded number of them by name, the rest as one."""

from collections.abc import Mapping

from db.connection import Connection
from db.depths import QueueDepth, queue_depths

OTHER = "other"
"""The name under which all queues are added up that are not told apart."""


def read_depths(connection: Connection, most: int) -> dict[str, QueueDepth]:
    """The depths of the queues that are not empty, by task key: of the `most` deepest, and of the rest together."""
    return bounded(queue_depths(connection), most)


def bounded(depths: Mapping[str, QueueDepth], most: int) -> dict[str, QueueDepth]:
    """The `most` deepest of these queues, and the rest as one under the name `other`."""
    deepest = sorted(depths, key=lambda key: (-depths[key].runs, key))
    told = {key: depths[key] for key in deepest[:most] if key != OTHER}
    if len(told) < len(depths):
        rest = QueueDepth()
        for key in depths.keys() - told.keys():
            rest.add(depths[key])
        told[OTHER] = rest
    return told
