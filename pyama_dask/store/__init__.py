"""What a run stores: arrays, crops, intermediate tables, traces, ledger, lock."""
