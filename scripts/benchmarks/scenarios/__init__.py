"""The scenarios: one module each, found by its name in the table (fan-in is fan_in.py).

A scenario is `async def run(stage: Stage, limits: Limits, size: Size) -> Result`:

- `stage` (benchmarks.stage) makes homes, starts the ledger, daemons, processes with embedded nodes and clients, ends
  them all. `await worker.call("benchmarks.scenarios.mine:function", x=1)` runs `async def function(worker, x)` in such
  a process, where `worker.node` is the client and `worker.engine` the embedded node's engine. All it takes and returns
  is JSON. `benchmarks.work` has the functions that most scenarios need, `benchmarks.pair` two nodes with a channel;
  `stage.process` starts a module of one's own that ends in `benchmarks.worker.serve`, such as one with many nodes.
- `limits` are the machine's, measured just before; `limits.sign_per_s` and so on.
- `size.of(full, small)`: the small run takes a second or two and shows only that the accounting is right.
- The Result's `values` has a value for every mark of the scenario's row in `benchmarks.table`, under the mark's name;
  the first mark is the row's ratio. A figure that the scenario has not stays None.
- At its end the scenario accounts for its payments: those sent = those received (read by the payee) = those settled
  on the ledger after a cooperative close. It raises BenchFailed if they differ, and gives the numbers as the Result's
  `accounts`, which whoever called `run` compares again; then the ledger's books are audited.
- Warm up before measuring; give the median of several rounds; a full run takes about 45 seconds, all of them together
  15 minutes at most.
"""
