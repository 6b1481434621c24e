"""What is trained: handwritten digits, split unevenly over the nodes."""

from daafl.data.partition import Dirichlet
from daafl.learning.tasks.digits import Digits


def make_task(alpha: float = 0.3) -> Digits:
    """Return the digits task; a smaller ``alpha`` makes the nodes' labels more different."""
    return Digits(partitioner=Dirichlet(alpha=alpha))
