"""Many channels, their peers and one ledger: still pure. Spec chapter 12, section 1.

Inputs go in (`node.Node`), one `Ready` comes out: what to make durable, then what to send.
"""
