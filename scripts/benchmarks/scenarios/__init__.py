"""The scenarios: one module each, found by its name in the table (fan-in is fan_in.py).

A scenario is `async def run(stage: Stage, limits: Limits, size: Size) -> Result`:

- `stage` (benchmarks.stage) makes homes, starts the ledger, daemons, processes with embedded nodes and clients.
  `await worker.call("benchmarks.scenarios.mine:function", x=1)` runs `async def function(worker, x)` in such a
  process, where `worker.node` is the client and `worker.engine` the embedded node's engine. All it takes and returns
  is JSON. `benchmarks.work` has the functions that most scenarios need, `benchmarks.pair` two nodes with a channel.
- `limits` are the machine's, measured just before; `limits.sign_per_s` and so on.
- `size.of(full, small)`: the small run takes a second or two and shows only that the accounting is right.
- The Result's `values` has a value for every mark of the scenario's row in `benchmarks.table`.
- At its end the scenario checks its accounting, and raises BenchFailed if it is wrong: payments sent = received
  (read by the payee) = settled on the ledger after a cooperative close. The ledger's books are audited afterwards by
  whoever called `run`.
- Warm up before measuring; give the median of several rounds; a full run of all scenarios takes 15 minutes at most.
"""
