"""Answers of nodes that do not do what they are asked, and say why.

It is no fault: a node whose budget is spent has done all that it may, and is not asked again.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict

from daafl.messages import BUDGET_SPENT, CONFIG, DECLINED


def has_declined(content: RecordDict) -> bool:
    """Return whether a reply says that the node's privacy budget is spent, and nothing else.

    Nobody can verify that, and nobody needs to: a node may always stay away.
    """
    record = content.get(CONFIG)
    return (
        len(content) == 1
        and isinstance(record, ConfigRecord)
        and dict(record.items()) == {DECLINED: BUDGET_SPENT}
    )
