"""The reproduction of the report: its numbers and its page."""
