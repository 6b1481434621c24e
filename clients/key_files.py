"""The keys of a real node: in files that its operator put there with ``daafl keys``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from daafl.clients.identity import identity
from daafl.clients.security import NodeKeys
from daafl.errors import ConfigError
from daafl.secure.key_files import read_identity
from daafl.secure.roster_files import verified_roster


@dataclass(frozen=True)
class KeyFiles:
    """Reads a node's keys where its node config, or the app, says they are.

    A SuperNode is told with ``--node-config 'node=3 identity="/keys/node-3" ...'``. Where many
    nodes share a machine, the app names files with ``{node}`` in their place.

    Parameters
    ----------
    identity, roster, authority
        Paths of the node's private key, of the signed roster and of the authority's public key.
        Empty for what the node config has under the same name.
    federation
        Name of the federation that the roster must be of.

    Examples
    --------
    ::

        app = client_app(Digits, secure=MaskedSums(), keys=KeyFiles())
    """

    identity: str = ""
    roster: str = ""
    authority: str = ""
    federation: str = "federation"

    def __call__(self, context: Context) -> NodeKeys:
        """Return the node's keys.

        Raises
        ------
        ConfigError
            If a file is missing or is not what it should be, or the roster does not list the
            node with this key.
        """
        node = identity(context).node
        own = read_identity(self._path("identity", self.identity, context, node))
        roster = verified_roster(
            self._path("roster", self.roster, context, node),
            self._path("authority", self.authority, context, node),
            federation=self.federation,
        )
        if roster.members.get(node) != own.public:
            raise ConfigError(
                f"the roster does not list node {node} with this node's key; have the authority "
                "certify it with `daafl keys certify`, or correct node=NUMBER in the node config"
            )
        return NodeKeys(own, roster)

    @staticmethod
    def _path(name: str, template: str, context: Context, node: int) -> Path:
        text = template or context.node_config.get(name)
        if not isinstance(text, str) or not text:
            raise ConfigError(
                f"this node has no {name} file: start it with --node-config '{name}=\"PATH\" ...', "
                "or name it in the app"
            )
        return Path(text.replace("{node}", str(node)))
