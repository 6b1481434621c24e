"""What a run shows: events, progress, reports."""
