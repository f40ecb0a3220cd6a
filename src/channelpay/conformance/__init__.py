"""The conformance kit: scripted conversations that any node and any ledger can be held against. Spec chapter 14.

A case is plain code over a `kit.Kit`: it plays the other party, with bytes of its own making, and judges what
comes back. Where the bytes go is the business of a `runner.Runner`: `tcp` reaches real daemons, the tests of this
project reach the production core in memory. The kit imports nothing of the node that it judges: floors 1 to 7 only.
"""
