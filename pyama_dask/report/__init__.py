"""The report of a run: one HTML page that opens anywhere, and one for each FOV on demand."""
