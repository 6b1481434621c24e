from daafl.observability.events import Vote
from daafl.observability.remarks import node_text, nodes_text, vote_text


def test_votes_in_words() -> None:
    vote = Vote(12, 9, 15, 3, 8, 0.6, "rejected")
    assert (
        vote_text(vote) == "a committee rejected version 12: 3 of 11 votes in favour, 60 % needed"
    )
    adopted = Vote(12, 9, 15, 1, 0, 0.5, "adopted")
    assert vote_text(adopted) == "a committee adopted version 12: 1 of 1 vote in favour"
    few = Vote(12, 9, 15, 1, 1, 0.5, "no_quorum")
    assert vote_text(few) == "too few of 15 nodes voted on version 12: 1 of 2 votes in favour"


def test_the_identity_of_a_real_node_is_cut() -> None:
    assert node_text(1029384756102938475) == "node …8475"
    assert nodes_text([1029384756102938475, 12]) == "nodes 12, …8475"
