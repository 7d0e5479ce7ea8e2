"""The loop that runs a plan, its pools, and what happens to workers."""
