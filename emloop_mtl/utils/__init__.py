"""Small helpers that know nothing of trainings."""
