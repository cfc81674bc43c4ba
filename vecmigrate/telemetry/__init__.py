"""What a run tells of itself: events, a metrics file, and what is never told."""
