"""A node's part in one masked sum, each step of it taken at most once.

::

    node                                 server
    advertise  -- Advertisement ------>  Advertisements
               <- Cohort --------------
    share      -- SealedShares ------->  Shares
               <- Delivery ------------
    mask       -- MaskedInput -------->  Inputs
               <- Survivors -----------
    confirm    -- Confirmation ------->  Confirming
               <- Confirmations -------
    reveal     -- Revelation --------->  Revealing -> MaskedSum

A node may fall silent anywhere. One that gets a message which breaks the protocol stops for good
and says why in the `MessageError`; nothing of the session is written to disk, so that one which was
restarted takes part again in the next session only, with fresh keys.
"""

from __future__ import annotations

from typing import TypeVar

from daafl.errors import MessageError
from daafl.secure import client
from daafl.secure.identity import Identity
from daafl.secure.masks import Words
from daafl.secure.messages import (
    Cohort,
    Confirmation,
    Confirmations,
    Delivery,
    MaskedInput,
    Revelation,
    SealedShares,
    Survivors,
)
from daafl.secure.terms import Group, Terms

State = client.Advertising | client.Sharing | client.Masking | client.Confirming
S = TypeVar("S", client.Advertising, client.Sharing, client.Masking, client.Confirming)


class Node:
    """A node in one session.

    Parameters
    ----------
    terms
        What the sum is about, built by the node itself.
    node
        Its number in the roster.
    identity
        Its long-lived key.

    Raises
    ------
    MessageError
        If the roster does not list it with this key.
    """

    def __init__(self, terms: Terms, node: int, identity: Identity) -> None:
        self._state: State | None
        self._state, self.advertisement = client.advertised(terms, node, identity)

    @classmethod
    def taken_up(cls, state: State) -> Node:
        """Return the node that `put_aside` left in ``state``."""
        node = cls.__new__(cls)
        node._state = state
        return node

    def put_aside(self) -> State:
        """Return the state, of which there is one only: this object can do nothing any more.

        Raises
        ------
        MessageError
            With reason ``phase`` if the session is over.
        """
        state, self._state = self._state, None
        if state is None:
            raise MessageError("phase", "the session is over: there is nothing to put aside")
        return state

    @property
    def terms(self) -> Terms:
        """What the sum is about.

        Raises
        ------
        MessageError
            With reason ``phase`` if the session is over.
        """
        if self._state is None:
            raise MessageError("phase", "the session is over")
        if isinstance(self._state, client.Advertising):
            return self._state.terms
        return self._state.group.terms

    @property
    def is_unmasked(self) -> bool:
        """Whether it has shared its secrets and not yet sent its vector."""
        return isinstance(self._state, client.Sharing)

    @property
    def group(self) -> Group:
        """The nodes that advertised keys; known once the cohort's have come.

        Raises
        ------
        MessageError
            With reason ``phase`` before, or if the session is over.
        """
        if self._state is None or isinstance(self._state, client.Advertising):
            raise MessageError("phase", "the cohort's keys have not come, or the session is over")
        return self._state.group

    def share(self, cohort: Cohort) -> SealedShares:
        """Return shares for its neighbours; see `client.Advertising.share`."""
        self._state, message = self._taken(client.Advertising).share(cohort)
        return message

    def mask(self, delivery: Delivery, words: Words) -> MaskedInput:
        """Return its vector under masks; see `client.Sharing.mask`."""
        self._state, message = self._taken(client.Sharing).mask(delivery, words)
        return message

    def confirm(self, survivors: Survivors) -> Confirmation:
        """Return its signature under the list; see `client.Masking.confirm`."""
        self._state, message = self._taken(client.Masking).confirm(survivors)
        return message

    def reveal(self, confirmations: Confirmations) -> Revelation:
        """Return its shares of others' secrets; see `client.Confirming.reveal`."""
        return self._taken(client.Confirming).reveal(confirmations)

    def _taken(self, phase: type[S]) -> S:
        """Return the state and forget it, so that no step is repeated, nor one after a failure."""
        state, self._state = self._state, None
        if not isinstance(state, phase):
            raise MessageError("phase", f"a message for phase {phase.__name__} came out of turn")
        return state
