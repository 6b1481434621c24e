"""What is trained: handwritten digits, split unevenly over the nodes."""

from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits


def make_task() -> Digits:
    """Return the task; a smaller ``alpha`` makes the nodes' labels more different."""
    return Digits(partitioner=Dirichlet(alpha=0.3))
