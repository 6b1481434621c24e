"""What every node runs."""

from daafl.clients import client_app
from quickstart.task import make_task

app = client_app(make_task)
