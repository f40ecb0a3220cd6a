"""The benchmarks: channelpay measured beside the limits of the machine it runs on. Spec chapter 16.

`scripts/bench --help` says how to run them; `scenarios` how to write one.
"""
