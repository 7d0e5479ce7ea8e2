"""From config and metadata to tasks."""
