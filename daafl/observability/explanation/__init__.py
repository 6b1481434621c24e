"""Explains a run's decisions from its journal, and checks every number on the way."""

from daafl.observability.explanation.account import Account, accounts
from daafl.observability.explanation.choosing import chosen
from daafl.observability.explanation.data import account_json
from daafl.observability.explanation.page import explanation_html
from daafl.observability.explanation.show import in_full, listed

__all__ = [
    "Account",
    "account_json",
    "accounts",
    "chosen",
    "explanation_html",
    "in_full",
    "listed",
]
