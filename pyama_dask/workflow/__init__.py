"""Tasks, receipts and failures: what the plan, the steps and the loop speak of."""
