"""What an application imports: the client of a node, and the services of the demo.

`client` is the door (`connect`, `Node`), `values` what it gives, `exceptions` what it raises,
`backend` and `connection` the two ways to reach a node.
"""
