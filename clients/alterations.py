"""Mods with a say in what a node has trained, before it is signed or hidden.

A Flower mod sees answers when they are finished. What is signed or masked can no longer be changed
then, so a mod that plays hostile nodes is asked earlier, about the same content that it would see
in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict

from daafl.clients.model_records import received_model
from daafl.clients.replies import reportable
from daafl.clients.work import Work
from daafl.errors import MessageError
from daafl.flower import metric_record
from daafl.learning.trainer import TorchTrainer
from daafl.messages import ARRAYS, METRICS, NUM_EXAMPLES, PACKED, TRAIN_LOSS


@runtime_checkable
class Alters(Protocol):
    """A mod that may change what a node has trained."""

    def altered(self, message: Message, context: Context, content: RecordDict) -> RecordDict:
        """Return what is sent in place of ``content``, which stays as it is; itself for no change.

        Parameters
        ----------
        message, context
            What the node was asked, and the node.
        content
            The trained model and the metrics, as they would travel in the clear.
        """


def altering(mods: Iterable[object]) -> tuple[Alters, ...]:
    """Return those mods that alter what nodes have trained, innermost first."""
    return tuple(mod for mod in reversed(list(mods)) if isinstance(mod, Alters))


def altered(
    work: Work,
    mods: Sequence[Alters],
    message: Message,
    context: Context,
    trainer: TorchTrainer,
) -> Work:
    """Return a training as the mods leave it.

    Raises
    ------
    MessageError
        If a mod leaves something that is no training of the model: it cannot be signed as one.
    """
    if not mods:
        return work
    honest = RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(work.trained.packed)}),
            METRICS: metric_record(
                {
                    NUM_EXAMPLES: work.trained.num_examples,
                    TRAIN_LOSS: reportable(work.trained.loss_before),
                }
            ),
        }
    )
    content = honest
    for mod in mods:
        content = mod.altered(message, context, content)
    if content is honest:
        return work
    metrics = content.get(METRICS)
    if not isinstance(metrics, MetricRecord):
        raise MessageError("schema", f"the altered training has no record {METRICS!r}")
    num_examples, loss = metrics.get(NUM_EXAMPLES), metrics.get(TRAIN_LOSS)
    if not isinstance(num_examples, int | float) or not isinstance(loss, int | float):
        raise MessageError("schema", "the altered training has no number of examples, or no loss")
    trained = replace(
        work.trained,
        packed=received_model(content, trainer).packed,
        num_examples=int(num_examples),
        loss_before=float(loss),
    )
    return replace(work, trained=trained, is_bounded=False)
