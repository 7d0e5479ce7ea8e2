"""Files of an output: arrays, crops, tables between tasks, traces, ledger, lock."""
