"""The demo: two services trade a file piece by piece, each piece for a payment of its own.

`seller` and `buyer` are the services, short enough to read as examples; `wire` is what they speak
with each other. `stage` starts and ends all processes, `director` lets the play run, `checks` and
`summary` judge it.
"""
