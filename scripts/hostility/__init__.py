"""Attacks on real daemons, while honest payments go on: `scripts/hostile`. See spec/18-threat-model.md.

`attacks` and `attacker` are the process that attacks, `arena` the daemons that are attacked, `honest` the payments,
`watch` what the daemons use, `closing` the closes that come all at once, `report` what is told of it.
"""
